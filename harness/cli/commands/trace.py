"""`harness trace`: explains where a packet goes, and checks acceptance cases."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.endings import Ending
from harness.cli.kube_version import kube_version, written
from harness.cli.output import OutputPath, output_format, write_json
from harness.cli.position import position
from harness.cli.progress import Progress
from harness.cli.value_completion import files, nodes, services
from harness.cli.verbosity import asked, say
from harness.cli.vm import KernelChoice, folder_of, run_in_vm_if_needed
from harness.exit_codes import EXIT_FAILED, EXIT_INPUT
from harness.wording import plural

if TYPE_CHECKING:
    from harness.acceptance.cases import Case


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("objects", required=False, shell_complete=files)
@click.option("--from", "source", help="Source: pod:NAME, pod:IP, node or external:IP.")
@click.option(
    "--to", "target", shell_complete=services, help="Destination: IP:PORT[/udp|/sctp], or svc:NAMESPACE/NAME:PORT."
)
@click.option("--mode", help="Proxy mode, nftables by default; with --cases, only the cases for this mode.")
@click.option("--cases", type=click.Path(path_type=Path), help="Judge the cases in this file or directory.")
@click.option("--kernel", type=KernelChoice("none", "auto", "netns", "vm"), default="none", show_default=True,
              is_flag=False, flag_value="auto",
              help="With --cases: also judge by real packets, sent between network namespaces of this kernel (netns) or"
                   " of a virtual machine (vm); auto, the default without a value, uses a machine only for modes that"
                   " this kernel lacks (usually ipvs).")  # fmt: skip
@output_format
@click.option("--json", "json_path", type=OutputPath(), help="Also write the result to this file (- for stdout).")
@click.option("--node", shell_complete=nodes, help="Node whose rules to compute; by default the first Node of OBJECTS.")
@click.option(
    "--at", type=position, help="State after this seq of a recording, or at this time (90s); the end by default."
)
@click.option("--cluster-cidr", help="Pod CIDRs, one per family, if OBJECTS has none.")
@kube_version
def trace(objects: str | None, cases: Path | None, json_path: str | None, **choices: Any) -> None:
    """Explain where a packet goes, rule by rule.

    OBJECTS is a recording or kubectl's output.  With --cases, judge acceptance cases instead.

    \b
      harness trace recordings/demo.jsonl --from external:203.0.113.7 --to svc:contingency-team/users-gateway:http
      harness trace dump.json --from pod:default/client --to 10.96.0.10:53/udp
      harness trace --cases cases/ --mode nftables --kernel netns --json out.json
      harness trace --cases cases/ --mode ipvs --kernel

    Exit codes: 0 success; 1 a case failed; 2 bad input (the cases that could be read are judged
    nevertheless).
    """
    try:
        from engine.config import NEWEST

        version = choices["kube_version"]
        if cases:
            if choices["kernel"].startswith("vm"):
                run_in_vm_if_needed(choices["kernel"], "", [], [folder_of(json_path)])
            sys.exit(_judge_cases(cases, choices["mode"], choices["kernel"], version, json_path))
        if not (objects and choices["source"] and choices["target"]):
            raise click.UsageError("give OBJECTS with --from and --to, or --cases; see --help")
        _trace_one(objects, choices, version or NEWEST, json_path)
    except ValueError as error:
        raise Ending(str(error), EXIT_INPUT) from None


def _judge_cases(
    path: Path, mode: str | None, kernel: str, version: tuple[int, int] | None, json_path: str | None
) -> int:
    cases, verdicts = _read_cases(path)
    if mode and not verdicts and not any(mode in case.modes for case in cases):
        named = sorted({each for case in cases for each in case.modes})
        raise ValueError(f"{path}: no case is for mode {mode!r}; they are for {', '.join(named)}")
    for verdict in verdicts:
        click.echo(f"error: {verdict['error']}", err=True)
    code, bad = EXIT_INPUT if verdicts else 0, len(verdicts)
    holding = [case for case in cases if version is None or case.holds_in(version)]
    planned = sum(mode in (None, each) for case in holding for each in case.modes)
    with Progress("judging cases", planned) as progress:
        for verdict in _verdicts(path, holding, mode, kernel, version):
            verdicts.append(verdict)
            progress.clear()
            if not (verdict["passed"] and asked().quiet):
                _print_verdict(verdict)
            progress.done(len(verdicts) - bad)
    failed = sum(not verdict["passed"] for verdict in verdicts)
    say(f"{len(verdicts) - failed} of {len(verdicts)} passed", err=json_path == "-")
    write_json({"cases": verdicts}, json_path)
    return code or (EXIT_FAILED if failed else 0)


def _read_cases(path: Path) -> tuple[list[Case], list[dict[str, Any]]]:
    """The readable cases, and failed verdicts for the others: one bad file does not hide the rest."""
    from harness.acceptance.cases import CaseError, files, read

    cases, bad = [], []
    for file in files(path):
        try:
            cases.append(read(file))
        except CaseError as error:
            bad.append(
                {"name": file.stem, "mode": "", "passed": False, "flows": [], "asserts": [], "error": str(error)}
            )
    return cases, bad


def _verdicts(
    path: Path, cases: Sequence[Case], mode: str | None, kernel: str, version: tuple[int, int] | None
) -> Iterator[dict[str, Any]]:
    from harness.acceptance.observer import open_observer
    from harness.acceptance.run import judge
    from harness.modes import MODES
    from harness.replay.kernels import needs_vm

    observer = open_observer if kernel != "none" else None
    wanted = {each for case in cases for each in case.modes if mode in (None, each)}
    elsewhere = {each for each in wanted if each in MODES and needs_vm(kernel, each)}
    for case in cases:
        for each in case.modes:
            if each in wanted - elsewhere:
                yield judge(case, each, observer, version)
    for each in sorted(elsewhere):
        yield from _verdicts_from_vm(path, each, version)


def _verdicts_from_vm(path: Path, mode: str, version: tuple[int, int] | None) -> list[dict[str, Any]]:
    """Verdicts of the same command for one mode in a virtual machine; ValueError if that fails."""
    import json

    from harness.places import vm

    command = [sys.executable, "-m", "harness", "trace", "--cases", str(path), "--mode", mode, "--kernel", "netns"]
    command += ["--kube-version", written(version)] if version else []
    out, errors = bytearray(), bytearray()
    try:
        code = vm.run([*command, "--json", "-"], stdout=out.extend, stderr=errors.extend)
    except vm.VmError as error:
        raise ValueError(str(error)) from None
    if code not in (0, EXIT_FAILED, EXIT_INPUT) or not out:
        raise ValueError(f"in a virtual machine: {errors.decode(errors='replace').strip()}")
    return [verdict for verdict in json.loads(out)["cases"] if verdict["mode"]]


def _print_verdict(verdict: dict[str, Any]) -> None:
    mark = "ok  " if verdict["passed"] else "FAIL"
    click.echo(f"{mark} {verdict['name']} ({verdict['mode']}, {plural(len(verdict['flows']), 'flow')})", err=True)
    if "error" in verdict:
        click.echo(f"     {verdict['error']}", err=True)
    if "unread" in verdict:
        click.echo(f"     not judged, as not supported: {', '.join(verdict['unread'])}", err=True)
    for item in verdict["flows"] + verdict["asserts"]:
        if item["passed"]:
            continue
        click.echo(f"     {item['name']}: expected {item['expected']}, actual {item['actual']}", err=True)
        if "kernel" in item:
            click.echo(f"     {' ' * len(item['name'])}  kernel {item['kernel']}", err=True)


def _trace_one(objects: str, choices: dict[str, Any], version: tuple[int, int], json_path: str | None) -> None:
    from harness.acceptance.run import Unavailable
    from harness.log import RecordingError
    from harness.replay.explain import Question, as_text, explain

    mode = choices["mode"] or "nftables"
    question = Question(choices["source"], choices["target"], mode, version, choices["cluster_cidr"])
    try:
        with Progress("reading and tracing"):
            found = explain(objects, question, choices["node"], choices["at"])
    except (RecordingError, Unavailable) as error:
        raise ValueError(str(error)) from None
    except LookupError as error:
        raise ValueError(f"{objects}: {error.args[0]}") from None
    if json_path != "-":
        click.echo(as_text(found), nl=False)
    write_json(found, json_path)
