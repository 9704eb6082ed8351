"""The option --external, and the measurement of proxies by `harness compare`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from harness.cli.position import position_or_none
from harness.cli.progress import Progress
from harness.kube.proxy import OURS, Command, CommandError, commands

if TYPE_CHECKING:
    from harness.replay.compare.result import OutsideRun

Function = TypeVar("Function", bound=Callable[..., Any])
METAVAR = "NAME=COMMAND"


def external_options(function: Function) -> Function:
    """`--external` and `--give-up`."""
    function = click.option(
        "--give-up",
        default="2m",
        show_default=True,
        help="With --external: timeout of the first sync; a change has a tenth of it.",
    )(function)
    return click.option(
        "--external",
        multiple=True,
        metavar=METAVAR,
        help="Also measure this proxy from outside; {kubeconfig}, {api}, {node}, {config} and {mode} are filled in.",
    )(function)


def proxies_of(external: tuple[str, ...], kernel: str, **without: object) -> list[Command]:
    """The proxies to measure from outside: none, or the engine followed by the given ones."""
    if not external:
        return []
    if kernel == "memory":
        raise click.UsageError("--external needs a kernel: leave --kernel memory out")
    for name, value in without.items():
        if value:
            raise click.UsageError(f"--external replays, --{name.replace('_', '-')} does not: give one of them")
    try:
        return [OURS, *commands(external)]
    except CommandError as error:
        raise click.BadParameter(str(error), param_hint="--external") from None


class ExternalComparison:
    """Measures proxies in modes."""

    def __init__(
        self,
        proxies: list[Command],
        variant: str | None,
        give_up: int,
        choices: dict[str, Any],
        version: tuple[int, int] | None,
    ) -> None:
        from engine.config import NEWEST
        from harness.external.run import ExternalOptions
        from harness.log.positions import duration
        from harness.log.window import Window

        self._proxies = proxies
        self._options = ExternalOptions(
            choices["node"],
            choices["cluster_cidr"],
            Window(position_or_none(choices["start"]), position_or_none(choices["until"])),
            duration(choices["min_sync_period"]),
            version or NEWEST,
            variant,
            give_up / 1e9,
        )

    def measure(self, source: str, modes: list[str], found: list[OutsideRun]) -> None:
        """Append the run of every proxy, in every mode that its command line can express."""
        from harness.external.run import run
        from harness.replay.report.outside import line_of

        for mode in modes:
            for proxy in self._proxies:
                if (mode == "userspace" and proxy is OURS) or (mode != modes[0] and not proxy.takes_modes):
                    continue
                with Progress(f"measuring {proxy.name} in mode {mode}") as progress:
                    found.append(run(source, proxy, mode, self._options, progress.step))
                click.echo(line_of(found[-1]), err=True)
