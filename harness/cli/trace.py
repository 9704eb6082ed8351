"""`harness trace`: why a packet goes where it goes, and whether cases hold."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from harness.cli.output import write_json

EXIT_FAILED, EXIT_INPUT = 1, 2


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("objects", required=False)
@click.option("--from", "source", help="pod:NAME, pod:IP, node or external:IP.")
@click.option("--to", "target", help="IP:PORT[/udp|/sctp], or svc:NAMESPACE/NAME:PORT.")
@click.option("--mode", help="Proxy mode; with --cases the cases that name it.  nftables by default.")
@click.option("--cases", type=click.Path(path_type=Path), help="Judge a case file, or all of a directory.")
@click.option("--kernel", type=click.Choice(["none", "auto", "netns", "uml"]), default="none", show_default=True,
              is_flag=False, flag_value="auto",
              help="With --cases: judge by real packets too, between namespaces or in user-mode Linux; auto, or"
                   " nothing after it, is there only what this kernel cannot do (ipvs, mostly).")  # fmt: skip
@click.option("--json", "json_path", type=click.Path(dir_okay=False), help="Write the result here too (- for stdout).")
@click.option("--node", help="Whose view to take; the first Node of OBJECTS by default.")
@click.option("--at", type=int, help="State after this seq of a recording; its end by default.")
@click.option("--cluster-cidr", help="Pod CIDRs, one a family, where OBJECTS do not say.")
@click.option("--kube-version", default=None, help="Follow this version, such as 1.30; the newest by default.")
def trace(objects: str | None, cases: Path | None, json_path: str | None, **choices) -> None:
    """Say why a packet goes where it goes: each rule or map that decides, and the outcome.

    OBJECTS is a recording or what kubectl prints. Or judge acceptance cases with --cases.

    \b
      harness trace recordings/demo.jsonl --from external:203.0.113.7 --to svc:shop/cart:http
      harness trace dump.json --from pod:default/client --to 10.96.0.10:53/udp
      harness trace --cases cases/ --mode nftables --kernel netns --json out.json
      harness trace --cases cases/ --mode ipvs --kernel

    Exit codes: 0 fine; 1 a case differs; 2 bad input (the cases that could be
    read are judged all the same).
    """
    try:
        version = _version(choices["kube_version"])
        if cases:
            sys.exit(_judge_cases(cases, choices["mode"], choices["kernel"], version, json_path))
        if not (objects and choices["source"] and choices["target"]):
            raise click.UsageError("OBJECTS with --from and --to, or --cases, is needed; see --help")
        _trace_one(objects, choices, version, json_path)
    except ValueError as error:
        click.echo(f"error: {error}", err=True)
        sys.exit(EXIT_INPUT)


def _version(text: str | None) -> tuple[int, int]:
    from engine.config import NEWEST

    if text is None:
        return NEWEST
    major, _, minor = text.removeprefix("v").partition(".")
    if not (major.isdigit() and minor.isdigit()):
        raise click.BadParameter(f"{text!r} is not a version such as 1.30", param_hint="--kube-version")
    return int(major), int(minor)


def _judge_cases(path: Path, mode: str | None, kernel: str, version: tuple[int, int], json_path: str | None) -> int:
    cases, verdicts = _read_cases(path)
    if mode and not verdicts and not any(mode in case.modes for case in cases):
        named = sorted({each for case in cases for each in case.modes})
        raise ValueError(f"{path}: no case is for mode {mode!r}; they are for {', '.join(named)}")
    for verdict in verdicts:
        click.echo(f"error: {verdict['error']}", err=True)
    code = EXIT_INPUT if verdicts else 0
    for verdict in _verdicts(path, [case for case in cases if case.min_version <= version], mode, kernel, version):
        verdicts.append(verdict)
        _print_verdict(verdict)
    failed = sum(not verdict["passed"] for verdict in verdicts)
    click.echo(f"{len(verdicts) - failed} of {len(verdicts)} passed", err=json_path == "-")
    write_json({"cases": verdicts}, json_path)
    return code or (EXIT_FAILED if failed else 0)


def _read_cases(path: Path) -> tuple[list, list[dict[str, Any]]]:
    """The cases that can be read, and verdicts of the others: one bad file does not hide the rest."""
    from harness.trace.cases import CaseError, files, read

    cases, bad = [], []
    for file in files(path):
        try:
            cases.append(read(file))
        except CaseError as error:
            bad.append(
                {"name": file.stem, "mode": "", "passed": False, "flows": [], "asserts": [], "error": str(error)}
            )
    return cases, bad


def _verdicts(path: Path, cases, mode: str | None, kernel: str, version: tuple[int, int]) -> Iterator[dict[str, Any]]:
    from harness.modes import MODES
    from harness.replay.kernels import KernelUnavailable, needs_uml
    from harness.trace.run import judge

    witness = None
    if kernel != "none":
        from harness.packets import open_witness as witness
    wanted = {each for case in cases for each in case.modes if mode in (None, each)}
    try:
        elsewhere = {each for each in wanted if each in MODES and needs_uml(kernel, each)}
    except KernelUnavailable as error:
        raise ValueError(str(error)) from None
    for case in cases:
        for each in case.modes:
            if each in wanted - elsewhere:
                yield judge(case, each, witness, version)
    for each in sorted(elsewhere):
        yield from _verdicts_from_uml(path, each, version)


def _verdicts_from_uml(path: Path, mode: str, version: tuple[int, int]) -> list[dict[str, Any]]:
    """The same command for one mode, in user-mode Linux; ValueError when that does not work."""
    import json

    from harness import uml

    command = [sys.executable, "-m", "harness", "trace", "--cases", str(path), "--mode", mode, "--kernel", "uml"]
    out, errors = bytearray(), bytearray()
    try:
        code = uml.run([*command, "--kube-version", ".".join(map(str, version)), "--json", "-"],
                       stdout=out.extend, stderr=errors.extend)  # fmt: skip
    except uml.UmlError as error:
        raise ValueError(str(error)) from None
    if code not in (0, EXIT_FAILED, EXIT_INPUT) or not out:
        raise ValueError(f"in user-mode Linux: {errors.decode(errors='replace').strip()}")
    return [verdict for verdict in json.loads(out)["cases"] if verdict["mode"]]


def _print_verdict(verdict: dict[str, Any]) -> None:
    mark = "ok  " if verdict["passed"] else "FAIL"
    click.echo(f"{mark} {verdict['name']} ({verdict['mode']}, {len(verdict['flows'])} flows)", err=True)
    if "error" in verdict:
        click.echo(f"     {verdict['error']}", err=True)
    if "unread" in verdict:
        click.echo(f"     not judged, since not known: {', '.join(verdict['unread'])}", err=True)
    for item in verdict["flows"] + verdict["asserts"]:
        if item["passed"]:
            continue
        click.echo(f"     {item['name']}: expected {item['expected']}, actual {item['actual']}", err=True)
        if "kernel" in item:
            click.echo(f"     {' ' * len(item['name'])}  kernel {item['kernel']}", err=True)


def _trace_one(objects: str, choices: dict, version: tuple[int, int], json_path: str | None) -> None:
    from harness.recording import RecordingError
    from harness.trace.objects import explain
    from harness.trace.run import Unavailable

    try:
        found = explain(objects, choices["source"], choices["target"], choices["mode"] or "nftables", version,
                        node=choices["node"], at=choices["at"], cluster_cidr=choices["cluster_cidr"])  # fmt: skip
    except (RecordingError, Unavailable) as error:
        raise ValueError(str(error)) from None
    if json_path != "-":
        click.echo(f"{found['packet']}  ({found['mode']}, node {found['node']})")
        for number, step in enumerate(found["steps"], 1):
            rule, _, element = step.partition("    ")
            click.echo(f"  {number:2} {rule}")
            if element:
                click.echo(f"       {element}")
        click.echo(_sentence(found["outcome"]))
    write_json(found, json_path)


def _sentence(outcome: dict[str, Any]) -> str:
    if outcome["outcome"] != "dnat":
        meant = {"reject": "refused with an ICMP error", "drop": "dropped in silence", "no-op": "left alone"}
        return f"=> {outcome['outcome']}: {meant[outcome['outcome']]}"
    source = "source replaced by the node's address" if outcome["masquerade"] else "source kept"
    return f"=> dnat to {' or '.join(outcome['endpoints'])}, {source}"
