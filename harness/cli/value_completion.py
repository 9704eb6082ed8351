"""Shell completion of arguments and options whose values come from a file or a recording."""

from __future__ import annotations

from itertools import islice

import click
from click.shell_completion import CompletionItem

LOOKED_AT = 20_000
"""Maximum events read from a recording: completion must not read all of a large one."""


def files(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """File names."""
    return [CompletionItem(incomplete, type="file")]


def nodes(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Names of the Nodes in the source given earlier on the command line."""
    return [name for name in _names(ctx, "nodes") if name.startswith(incomplete)]


def services(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """`svc:NAMESPACE/NAME:` of the Services in the source, without the port."""
    found = (f"svc:{name}:" for name in _names(ctx, "services"))
    return [name for name in found if name.startswith(incomplete)]


def _names(ctx: click.Context, resource: str) -> list[str]:
    from harness.log import open_source
    from harness.log.state import key_of

    # While an option's value is being completed, earlier arguments are not assigned yet.
    source = ctx.params.get("objects" if "objects" in ctx.params else "source") or next(iter(ctx.args), None)
    if not source or source == "-" or "://" in source:
        return []
    try:
        with open_source(source) as recording:
            events = (e for e in islice(recording, LOOKED_AT) if e.resource == resource and e.type == "ADDED")
            return sorted({"/".join(filter(None, key_of(event)[1:])) for event in events})
    except (ValueError, OSError):
        return []
