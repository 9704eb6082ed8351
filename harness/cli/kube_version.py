"""The option --kube-version, shared by all commands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


class KubeVersion(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions of click only
    """A Kubernetes minor version that the engine and the oracle know."""

    name = "version"

    def convert(
        self, value: str | tuple[int, int], param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, int]:
        """Extends click: BadParameter names the known versions."""
        from engine.config import parse_version

        try:
            return value if isinstance(value, tuple) else parse_version(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)


Versions = tuple[tuple[int, int], ...]


class KubeVersions(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions of click only
    """Two or more versions, oldest first."""

    name = "versions"

    def convert(self, value: str | Versions, param: click.Parameter | None, ctx: click.Context | None) -> Versions:
        """Extends click: BadParameter for an unknown version, or fewer than two."""
        if isinstance(value, tuple):
            return value
        one = KubeVersion().convert
        found = tuple(sorted({one(text.strip(), param, ctx) for text in value.split(",")}))
        if len(found) < 2:
            self.fail("at least two different versions are needed, such as 1.35,1.37", param, ctx)
        return found


def kube_version(command: Command) -> Command:
    """Decorator that adds --kube-version."""
    return click.option(
        "--kube-version",
        type=KubeVersion(),
        metavar="VERSION",
        help="Behave like kube-proxy of this Kubernetes version, 1.30 to 1.38; default: 1.37, the newest release.",
    )(command)


def written(version: tuple[int, int]) -> str:
    """The version as written on a command line."""
    return ".".join(map(str, version))
