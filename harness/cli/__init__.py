"""The command line: one lazily imported module a command, so that `--help` is quick."""

from __future__ import annotations

from importlib import import_module

import click

COMMANDS = (
    "chaos",
    "compare",
    "copy",
    "inspect",
    "kafka",
    "lab",
    "plan",
    "record",
    "replay",
    "serve",
    "synth",
    "trace",
    "validate",
)


class LazyGroup(click.Group):
    """Imports `harness.cli.NAME` and takes its command NAME only when it is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """All command names."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command, None for an unknown name."""
        if name not in COMMANDS:
            return None
        return getattr(import_module(f"harness.cli.{name}"), name)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="kube-proxy-harness", prog_name="harness")
def main() -> None:
    """Replay a cluster's Services into a service proxy, and say how long it takes to converge.

    \b
      harness replay recordings/demo.jsonl          a small recording, checked and timed
      harness replay dump.json                      what kubectl get -o json printed
      harness synth big.jsonl --services 100000     make a larger one
      harness inspect recordings/10k-svc.jsonl      what is in it
    """
