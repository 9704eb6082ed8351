"""`harness plan`: the rules of a mode as input for its tools."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from harness.cli.endings import Ending
from harness.cli.kube_version import kube_version
from harness.cli.output import OutputPath, write_text
from harness.cli.position import position
from harness.cli.progress import Progress
from harness.cli.value_completion import files, nodes
from harness.exit_codes import EXIT_INPUT
from harness.modes import MODES

if TYPE_CHECKING:
    from engine.program import Program

JSON_MODES = ("userspace", "kernelspace")

_SCRIPT = """\
#!/bin/sh
# Loads these rules into the network namespace that it runs in.
set -e
cd "$(dirname "$0")"
"""
_MODULE = "modprobe --quiet ip_vs || true  # its sysctls exist only once it is loaded\n"
_VARIANT = """\
# A kernel without nf_tables support for IP tables fails at the first change: try one and undo it.
variant=
iptables -t nat -N KUBE-PLAN-PROBE 2>/dev/null || variant=-legacy
iptables -t nat -X KUBE-PLAN-PROBE 2>/dev/null || true
"""
_PREPARATIONS = {"iptables": (_VARIANT,), "ipvs": (_VARIANT, _MODULE)}
"""The first commands of the script, by mode."""

EXAMPLES = """\b
Examples:
  harness plan dump.json --mode nftables > rules.nft
  harness plan dump.json --mode iptables --family 4 | less
  harness plan recordings/demo.jsonl --mode ipvs --at 120 --dir ipvs-at-120
  harness plan recordings/demo.jsonl --mode kernelspace --source-vip 10.128.0.2 --family 4
"""


@click.command(epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("source", shell_complete=files)
@click.option("--mode", type=click.Choice([*MODES, "kernelspace"]), default="nftables", show_default=True)
@click.option("--at", type=position, help="State after this seq, or at this time (90s); the end by default.")
@click.option("--family", type=click.Choice(["4", "6"]), help="Only this IP family; both by default.")
@click.option(
    "--node", shell_complete=nodes, help="Node whose rules to compute; by default the recording's first Node."
)
@kube_version
@click.option("--cluster-cidr", help="Pod CIDRs, one per family, if the recording has none.")
@click.option("--source-vip", default="", help="kernelspace: the source VIP that HNS uses in overlay networks.")
@click.option("--enable-dsr", is_flag=True, help="kernelspace: use direct server return for cluster IPs.")
@click.option("-o", "--output", type=OutputPath(), help="Write to this file (- for stdout).")
@click.option(
    "--dir",
    "folder",
    type=click.Path(file_okay=False),
    help="Write one file per section, and a load.sh that loads them, to this folder.",
)
def plan(source: str, output: str | None, folder: str | None, **choices: Any) -> None:
    """Print the rules that a node needs, for the mode's own tools.

    SOURCE is a recording, kubectl's JSON output, or - for standard input.  Nothing is applied and no
    kernel is needed.  Each section is headed by a comment with the command that reads it:

    \b
      nftables     nft -f
      iptables     iptables-restore, ip6tables-restore
      ipvs         ipset restore, iptables-restore, ip -batch, ipvsadm -R
      userspace    JSON: listeners and endpoint sets of the harness's userspace proxy
      kernelspace  JSON: load balancer policies for the Host Networking Service of a Windows node

    The output for nftables, and for iptables with --family, can be piped to the tool unchanged, by root.
    For several sections, or where root of a user namespace has small socket buffers, use --dir: its
    load.sh loads them in order.  Exits with 2 if SOURCE cannot be read.
    """
    if output and folder:
        raise click.UsageError("--output and --dir exclude each other")
    made = _programs(source, choices)
    if folder:
        _write_folder(made, Path(folder), choices["mode"])
    else:
        write_text(_page(made, choices), output or "-")


def _programs(source: str, choices: dict[str, Any]) -> list[Program]:
    from harness.cli.options import networks
    from harness.replay.plan import PlanOptions, programs

    family = choices.pop("family")
    pods = networks(choices.pop("cluster_cidr"))
    version = choices.pop("kube_version")
    choices |= {"version": version} if version else {}
    choices |= {"families": (int(family),)} if family else {}
    wanted = PlanOptions(**choices, pod_networks=pods)
    try:
        with Progress("reading and planning"):
            return programs(source, wanted)
    except LookupError as error:
        raise Ending(f"{source}: {error.args[0]}", EXIT_INPUT) from None


def _page(made: list[Program], choices: dict[str, Any]) -> str:
    """Everything as one text: a single JSON value, or sections headed by their commands."""
    if choices["mode"] in JSON_MODES:
        texts = [program.text() for program in made]
        return texts[0] if len(texts) == 1 else "[\n" + ",\n".join(text.rstrip("\n") for text in texts) + "\n]\n"
    page, above = [], ""
    for program in made:
        for command, text in program.sections():
            heading = f"# IPv{program.family}: {command}\n"
            # Sysctls are printed as comments, so that the tool accepts the output unchanged.
            comments = "".join(f"# {line}\n" for line in text.splitlines()) if command.startswith("sysctl") else ""
            page += [heading if heading != above else "", comments or text]
            above = heading
    return "".join(page)


def _write_folder(made: list[Program], folder: Path, mode: str) -> None:
    """One numbered file per section, and a script that runs their commands on them."""
    folder.mkdir(parents=True, exist_ok=True)
    script = [_SCRIPT, *_PREPARATIONS.get(mode, ())]
    number = 0
    for program in made:
        for command, text in program.sections():
            number += 1
            tool = command.split()[0] if command else mode
            name = f"{number:02}-ipv{program.family}-{tool}.{'txt' if command else 'json'}"
            write_text(text, str(folder / name))
            if command:
                script.append(_in_script(command, shlex.quote(name)))
    if mode not in JSON_MODES:
        write_text("".join(script), str(folder / "load.sh"))
        (folder / "load.sh").chmod(0o755)


def _in_script(command: str, name: str) -> str:
    """One line of the script: tolerates objects that both families create, and uses the working iptables variant."""
    if command == "ip -batch -":
        return f"sed \"$(ip link show dev kube-ipvs0 >/dev/null 2>&1 && echo '/^link add/d')\" {name} | {command}\n"
    command = command.replace("tables-restore", "tables$variant-restore")
    return f"{command.replace('ipset restore', 'ipset restore -exist')} < {name}\n"
