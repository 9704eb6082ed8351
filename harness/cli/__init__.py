"""The command line: one lazily imported module a command, so that `--help` is quick."""

from __future__ import annotations

from importlib import import_module

import click

COMMANDS = (
    "chaos",
    "compare",
    "copy",
    "diff",
    "import",
    "inspect",
    "kafka",
    "lab",
    "plan",
    "record",
    "redact",
    "replay",
    "serve",
    "synth",
    "trace",
    "validate",
)
MODULES = {"import": "importing"}
"""Where a command's name cannot be a module's."""


class LazyGroup(click.Group):
    """Imports `harness.cli.NAME` and takes its command NAME only when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All command names."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command, None for an unknown name."""
        if name not in COMMANDS:
            return None
        module = MODULES.get(name, name)
        return getattr(import_module(f"harness.cli.{module}"), module)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="kube-proxy-harness", prog_name="harness")
def main() -> None:
    """Know before a release how a Kubernetes service proxy behaves, and what traffic is lost while it catches up.

    \b
      harness replay recordings/demo.jsonl        a small recording, checked and timed
      harness replay dump.json --mode iptables    what kubectl get -o json printed
      harness record --out prod.jsonl             a cluster's history, as it happens
      harness serve prod.jsonl                    ... as a Kubernetes API again
      harness chaos run pod-kill                  a fault under load on a lab of real nodes, and a verdict
    """
