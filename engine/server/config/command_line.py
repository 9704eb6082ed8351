"""The command line, spelt as Go programs spell it (CLI-01, CLI-04): `--flag=value`, `--flag value`, `--flag`.

click tells flags from arguments and writes the help; each value is read by its flag's kind.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import click

from engine.server.field_errors import quoted
from engine.server.flag_values import BOOL
from engine.server.flags import FLAGS, Flag

PROGRAM = "proxy-engine"
_SHORT = {"-v": "v"}
_EPILOG = f"""\b
Examples:
  {PROGRAM} --config /var/lib/kube-proxy/config.conf
  {PROGRAM} --kubeconfig ~/.kube/config --proxy-mode nftables --hostname-override worker-1 -v=2
  {PROGRAM} --proxy-mode ipvs --write-config-to config.yaml
  {PROGRAM} --cleanup

Exit status:
  0  it was told to end: by SIGTERM, or by --version, --cleanup, --init-only, --write-config-to
  1  anything else: a wrong flag or configuration, a changed configuration file,
     rules that could not be removed

Fields, defaults and flags: docs/configuration.md"""


class FlagError(Exception):
    """A command line that can't be read; the usage goes with it."""


class CommandLine(NamedTuple):
    """Flags that were given, by name, with their values; and what else was asked for."""

    values: dict[str, Any]
    version: bool = False

    @property
    def deprecations(self) -> list[str]:
        """A line for each deprecated flag in use."""
        used = [FLAGS[name] for name in self.values if FLAGS[name].deprecated]
        return [f"Flag --{flag.name} has been deprecated, {flag.deprecated}" for flag in used]


def parse(argv: list[str]) -> CommandLine:
    """Read a command line; FlagError when it is wrong, click.exceptions.Exit when help was printed."""
    try:
        context = command().make_context(PROGRAM, list(_joined(argv)))
    except click.NoSuchOption as error:
        raise FlagError(_unknown(error.option_name)) from None
    except click.UsageError as error:
        raise FlagError(error.format_message()) from None
    arguments = context.params.pop("arguments")
    if any(arguments):
        listed = " ".join(map(quoted, arguments))
        raise FlagError(f"{quoted(PROGRAM)} does not take any arguments, got [{listed}]")
    version = any(text not in ("false", "0") for text in context.params.pop("version"))
    given = {name.replace("_", "-"): texts for name, texts in context.params.items() if texts}
    return CommandLine({name: _value(FLAGS[name], texts) for name, texts in given.items()}, version)


def command() -> click.Command:
    """The click command that holds every flag; it is parsed and never invoked."""
    options = [_option(flag) for flag in FLAGS.values()]
    options.append(click.Option(["--version"], multiple=True, metavar="", help="Print the version and exit."))
    options.append(click.Argument(["arguments"], nargs=-1, metavar=""))
    return click.Command(
        PROGRAM,
        params=options,
        help="A node's service proxy: watches Services and EndpointSlices and programs this node's kernel, "
        "configured as kube-proxy is.",
        epilog=_EPILOG,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
        options_metavar="[flags]",
    )


def _option(flag: Flag) -> click.Option:
    names = [f"--{flag.name}", *(short for short, name in _SHORT.items() if name == flag.name)]
    help = f"{flag.help} DEPRECATED" if flag.deprecated else flag.help
    metavar = "" if flag.kind is BOOL else flag.kind.metavar
    return click.Option([*names, flag.name.replace("-", "_")], multiple=True, metavar=metavar, help=help)


def _joined(argv: list[str]) -> Iterator[str]:
    """Each flag and its value as one word, so that a value may begin with a dash; a bare boolean is true."""
    rest = iter(argv)
    for word in rest:
        if word == "--":
            yield from (word, *rest)
            return
        lead, equals, value = word.partition("=")
        short = re.fullmatch(r"(-v)=?(.+)", word)
        if short:
            yield f"--v={short[2]}"
            continue
        name = _SHORT.get(lead) or (lead[2:].replace("_", "-") if lead.startswith("--") else "")
        if name == "version" or (name in FLAGS and FLAGS[name].kind is BOOL):
            yield f"--{name}={value if equals else 'true'}"
        elif name in FLAGS:
            yield f"--{name}={value if equals else _next(rest, lead)}"
        else:
            yield word


def _next(rest: Iterator[str], flag: str) -> str:
    for word in rest:
        return word
    raise FlagError(f"flag needs an argument: {flag}")


def _value(flag: Flag, texts: tuple[str, ...]) -> Any:
    """The last value given, or all of them joined where the kind says how."""
    value: Any = None
    for n, text in enumerate(texts):
        try:
            read = flag.kind.read(text)
        except ValueError as error:
            short = "-v, " if flag.name == "v" else ""
            raise FlagError(f'invalid argument {quoted(text)} for "{short}--{flag.name}" flag: {error}') from None
        value = flag.kind.join(value, read) if n and flag.kind.join else read
    return value


def _unknown(option: str) -> str:
    if option.startswith("--"):
        return f"unknown flag: {option.partition('=')[0]}"
    return f"unknown shorthand flag: '{option[1:2]}' in {option}"
