"""`harness plan`: the program of a mode as its tools' own text."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import click

from harness.cli.output import write_text
from harness.modes import MODES

JSON_MODES = ("userspace", "kernelspace")
EXIT_INPUT = 2

_SCRIPT = """\
#!/bin/sh
# Loads this program into the network namespace that it runs in.
set -e
cd "$(dirname "$0")"
"""
_VARIANT = """\
# A kernel whose nf_tables has no IP tables refuses the first change only: one is tried and taken back.
variant=
iptables -t nat -N KUBE-PLAN-PROBE 2>/dev/null || variant=-legacy
iptables -t nat -X KUBE-PLAN-PROBE 2>/dev/null || true
"""

EXAMPLES = """\b
Examples:
  harness plan dump.json --mode nftables > rules.nft
  harness plan dump.json --mode iptables --family 4 | less
  harness plan recordings/demo.jsonl --mode ipvs --at 120 --dir ipvs-at-120
  harness plan recordings/demo.jsonl --mode kernelspace --source-vip 10.128.0.2 --family 4
"""


@click.command(epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("source")
@click.option("--mode", type=click.Choice([*MODES, "kernelspace"]), default="nftables", show_default=True)
@click.option("--at", type=int, metavar="SEQ", help="The state right after this event; the end by default.")
@click.option("--family", type=click.Choice(["4", "6"]), help="One family; both by default.")
@click.option("--node", help="Whose view to take; the first Node of the recording by default.")
@click.option("--cluster-cidr", help="Pod CIDRs, one a family, where the recording does not say.")
@click.option("--source-vip", default="", help="kernelspace: the address HNS replaces sources by in overlay networks.")
@click.option("--enable-dsr", is_flag=True, help="kernelspace: cluster IPs with direct server return.")
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="Write to this file; - is standard output.")
@click.option(
    "--dir", "folder", type=click.Path(file_okay=False), help="A file a section, and a load.sh that feeds them."
)
def plan(source: str, output: str | None, folder: str | None, **choices) -> None:
    """Print the complete program that a node needs for SOURCE, in the words of the mode's own tools.

    SOURCE is a recording, kubectl's JSON output, or - for standard input.  Nothing is applied and no
    kernel is needed.  Each section stands under the command that takes it, as a comment:

    \b
      nftables     nft -f
      iptables     iptables-restore, ip6tables-restore
      ipvs         ipset restore, iptables-restore, ip -batch, ipvsadm -R
      userspace    JSON: listeners and endpoint sets of the harness's own proxy
      kernelspace  JSON: load balancer policies for the Host Networking Service of a Windows node

    What is printed for nftables, and for iptables with --family, can be fed to the tool as it is, by
    root.  For several sections, or where a namespace's own root has small socket buffers, take --dir:
    its load.sh feeds them in order.  Exits with 2 when SOURCE cannot be read.
    """
    if output and folder:
        raise click.UsageError("either --output or --dir")
    if output and output != "-" and not Path(output).parent.is_dir():
        raise click.UsageError(f"{output}: there is no folder {Path(output).parent}")
    made = _programs(source, choices)
    if folder:
        _write_folder(made, Path(folder), choices["mode"])
    else:
        write_text(_page(made, choices), output or "-")


def _programs(source: str, choices: dict) -> list:
    from harness.cli.replay import networks
    from harness.plan import Choices, programs
    from harness.recording import RecordingError

    family = choices.pop("family")
    pods = networks(choices.pop("cluster_cidr"))
    wanted = Choices(**choices, pod_networks=pods, **({"families": (int(family),)} if family else {}))
    try:
        return programs(source, wanted)
    except RecordingError as error:
        click.echo(f"error: {error}", err=True)
    except LookupError as error:
        click.echo(f"error: {source}: {error.args[0]}", err=True)
    sys.exit(EXIT_INPUT)


def _page(made: list, choices: dict) -> str:
    """All on one page: JSON as one value, else sections under their commands."""
    if choices["mode"] in JSON_MODES:
        texts = [program.text() for program in made]
        return texts[0] if len(texts) == 1 else "[\n" + ",\n".join(text.rstrip("\n") for text in texts) + "\n]\n"
    page, above = [], ""
    for program in made:
        for command, text in program.sections():
            heading = f"# IPv{program.family}: {command}\n"
            # Settings are comments, so that what is beside them can be fed to its tool as it is.
            comments = "".join(f"# {line}\n" for line in text.splitlines()) if command.startswith("sysctl") else ""
            page += [heading if heading != above else "", comments or text]
            above = heading
    return "".join(page)


def _write_folder(made: list, folder: Path, mode: str) -> None:
    """A numbered file a section, and a script that feeds them to their commands."""
    folder.mkdir(parents=True, exist_ok=True)
    script = [_SCRIPT, _VARIANT if mode in ("iptables", "ipvs") else ""]
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
    """One line of the script: what both families make is fine when it is there, iptables in the variant that works."""
    if command == "ip -batch -":
        return f"sed \"$(ip link show dev kube-ipvs0 >/dev/null 2>&1 && echo '/^link add/d')\" {name} | {command}\n"
    command = command.replace("tables-restore", "tables$variant-restore")
    return f"{command.replace('ipset restore', 'ipset restore -exist')} < {name}\n"
