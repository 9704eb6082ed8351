"""`harness doctor`: what works on this machine, and what is missing for the rest."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click
import msgspec

from harness.cli.output import output_format, write_json
from harness.exit_codes import EXIT_FAILED

if TYPE_CHECKING:
    from harness.doctor import Diagnosis

BASE = "replay in mode nftables"


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@output_format
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(as_json: bool) -> None:
    """Report what works on this machine, and what is missing.

    Attach the output to bug reports.

    The machine is not changed: namespaces created for the checks are removed again.

    \b
      harness doctor
      harness doctor -o json

    Exit codes: 0 replays work; 1 they do not work.
    """
    from harness.doctor import diagnose

    found = diagnose()
    if as_json:
        write_json(found, "-")
    else:
        _show(found)
    sys.exit(EXIT_FAILED if found.works[BASE] else 0)


def _show(found: Diagnosis) -> None:
    for name, value in msgspec.structs.asdict(found.machine).items():
        if isinstance(value, dict):
            value = ", ".join(f"{part} {version or 'not installed'}" for part, version in value.items())
        click.echo(f"{name.replace('_', ' '):<14} {value}")
    click.echo()
    reasons: dict[str, str] = {}
    for name, why in found.works.items():
        click.echo(f"no   {name}: {reasons.get(why, why)}" if why else f"yes  {name}")
        if why:
            reasons.setdefault(why, f"as for {name}")
    click.echo()
    for name, path in found.tools.items():
        click.echo(f"{name:<20} {path or 'not installed'}")
