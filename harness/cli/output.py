"""Output of all commands: files are opened when the command line is parsed, and written completely or not at all."""

from __future__ import annotations

import contextlib
import json
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click
import msgspec

from harness.cli.endings import Ending
from harness.cli.verbosity import asked
from harness.exit_codes import EXIT_INPUT
from harness.output import Output, OutputError

_OPEN, _FORMAT = "harness.outputs", "harness.format"


Command = TypeVar("Command", bound=Callable[..., Any])


class OutputPath(click.ParamType):  # type: ignore[type-arg]  # generic in newer versions of click only
    """A file to write, or - for standard output; if it cannot be written, the command ends before its work starts."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        path = str(value)
        if path != "-" and ctx is not None and not ctx.resilient_parsing:
            with reported():
                output = Output(path)
            ctx.meta.setdefault(_OPEN, {})[path] = output
            ctx.call_on_close(output.discard)
        return path


def this_command() -> str:
    """The command line, quoted for a shell."""
    return shlex.join(["harness", *sys.argv[1:]])


def output_format(command: Command) -> Command:
    """Decorator that adds `-o table|json|yaml` to a command with --json, whether that is a file or a flag."""
    return click.option(
        "-o", "--output", type=click.Choice(["table", "json", "yaml"]), is_eager=True, expose_value=False,
        callback=_choose_format, help="Format of standard output.  [default: table]",
    )(command)  # fmt: skip


def _choose_format(ctx: click.Context, param: click.Parameter, value: str | None) -> None:
    if value in ("json", "yaml"):
        ctx.meta[_FORMAT] = value
        ctx.default_map = {**(ctx.default_map or {}), "json_path": "-", "as_json": True}


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """Report an output that cannot be written in one line, and exit with 2."""
    try:
        yield
    except OutputError as error:
        raise Ending(str(error), EXIT_INPUT) from None


def write_json(value: object, path: str | None) -> None:
    """Write structs or plain values: to standard output for `-`, to a complete file or nothing; None writes nothing."""
    context = click.get_current_context(silent=True)
    plain = msgspec.to_builtins(value) if path else None
    if path == "-" and context and context.meta.get(_FORMAT) == "yaml":
        import yaml

        click.echo(yaml.safe_dump(plain, sort_keys=False, allow_unicode=True), nl=False, file=asked().data)
    elif path:
        write_text(json.dumps(plain, indent=2) + "\n", path)


def write_text(text: str, path: str | Path) -> None:
    """Write to standard output for `-`, otherwise a complete file or nothing."""
    if path == "-":
        click.echo(text, nl=False, file=asked().data)
        return
    context = click.get_current_context(silent=True)
    with reported():
        output = (context and context.meta.get(_OPEN, {}).pop(path, None)) or Output(path)
        try:
            output.file.write(text.encode())
            output.file.flush()
        except OSError as error:
            output.discard()
            raise OutputError(str(path), error) from None
        output.commit()
