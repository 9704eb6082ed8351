"""The command line.  Each command is a module of `harness.cli.commands`, imported on demand so that `--help` is fast.

The other modules here are shared by commands: options, completion, output, progress, and how a command ends.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from inspect import cleandoc
from pathlib import Path
from typing import Any

import click

from engine.paths import add_sbin
from harness.cli.endings import prepare, reported
from harness.cli.verbosity import with_verbosity

MODULES = {"import": "importing"}
"""Commands whose name is not usable as a module name."""

_named = {module: name for name, module in MODULES.items()}
COMMANDS = tuple(
    sorted(_named.get(path.stem, path.stem) for path in (Path(__file__).parent / "commands").glob("[a-z]*.py"))
)
"""All commands of this package: the modules of `harness.cli.commands`."""

BROUGHT = "kube_proxy_harness.commands"
"""Entry point group for commands provided by other packages, such as `chaos`."""


@cache
def brought() -> dict[str, EntryPoint]:
    """Commands provided by other packages, by name."""
    return {point.name: point for point in entry_points(group=BROUGHT)}


def _where(name: str) -> tuple[str, str]:
    """The module and the function of a command."""
    if name in brought():
        return brought()[name].module, brought()[name].attr
    module = MODULES.get(name, name)
    return f"harness.cli.commands.{module}", module


def _help(name: str) -> str:
    """A command's docstring, from its source: importing all commands for their first line would take a second."""
    module, function = _where(name)
    spec = find_spec(module)
    source = Path(spec.origin).read_text() if spec and spec.origin else ""
    # Not with `ast`: parsing every command takes as long as the rest of --help.
    found = re.search(rf'^def {re.escape(function)}\(.*?^    """(.*?)"""', source, re.DOTALL | re.MULTILINE)
    return cleandoc(found[1]) if found else ""


class LazyGroup(click.Group):
    """Imports `harness.cli.commands.NAME`, or an entry point's target, only when the command is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All command names."""
        return sorted({*COMMANDS, *brought()})

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command, or None for an unknown name."""
        if name not in self.list_commands(ctx):
            return None
        module, function = _where(name)
        return with_verbosity(getattr(import_module(module), function))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Extends click: an unknown name is answered with similar names."""
        name = args[0]
        known = self.list_commands(ctx)
        if name not in known and not name.startswith("-") and not ctx.resilient_parsing:
            from difflib import get_close_matches

            alike = " or ".join(get_close_matches(name, known, n=2))
            hint = f"; did you mean {alike}?" if alike else "; `harness --help` lists them"
            ctx.fail(f"no such command: {name}{hint}")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Extends click: one line per command, without importing it."""
        names = self.list_commands(ctx)
        room = formatter.width - 6 - max(map(len, names))
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, click.Command(name, help=_help(name)).get_short_help_str(room)) for name in names]
            )

    def invoke(self, ctx: click.Context) -> Any:
        """Extends click: environment errors are reported in one line (see `endings`)."""
        with reported():
            return super().invoke(ctx)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="kube-proxy-harness", prog_name="harness")
def main() -> None:
    """Test how a Kubernetes service proxy behaves, and what traffic is lost while it catches up.

    \b
      harness replay recordings/demo.jsonl      a small one, verified and timed
      harness replay dump.json --mode iptables  the output of kubectl get -o json
      harness record --out prod.jsonl           a cluster's events as they happen
      harness serve prod.jsonl                  a recording as a Kubernetes API
      harness chaos run pod-kill                a fault under load in a lab
    """
    prepare()
    add_sbin()
