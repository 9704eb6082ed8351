"""The command line in Go's syntax (CLI-01, CLI-04): `--flag=value`, `--flag value`, `--flag`.

click separates flags from arguments and prints the help; each value is parsed by its flag's kind.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import click

from engine.config import NEWEST
from engine.server.config.field_errors import quoted
from engine.server.config.flag_values import BOOL
from engine.server.config.flags import FLAGS, Flag

PROGRAM = "proxy-engine"
KUBE_VERSION_FLAG = "kube-version"
_SHORT = {"-v": "v"}
_EPILOG = f"""\b
Examples:
  {PROGRAM} --config /var/lib/kube-proxy/config.conf
  {PROGRAM} --kubeconfig ~/.kube/config --proxy-mode nftables --hostname-override worker-1 -v=2
  {PROGRAM} --proxy-mode ipvs --write-config-to config.yaml
  {PROGRAM} --cleanup

Exit status:
  0  success: ended by SIGTERM, or --version, --cleanup, --init-only, --write-config-to completed
  1  any failure: an invalid flag or configuration, a changed configuration file,
     rules that could not be removed

Fields, defaults and flags: docs/configuration.md"""


class FlagError(Exception):
    """An invalid command line; it is reported together with the usage."""


class CommandLine(NamedTuple):
    """The given flags by name, with their values, and whether --version was given."""

    values: dict[str, Any]
    version: bool = False

    @property
    def deprecations(self) -> list[str]:
        """A line for each deprecated flag in use."""
        used = [FLAGS[name] for name in self.values if FLAGS[name].deprecated]
        return [f"Flag --{flag.name} has been deprecated, {flag.deprecated}" for flag in used]


def parse(argv: list[str], version: tuple[int, int] = NEWEST) -> CommandLine:
    """Parse a command line; FlagError if it is invalid, click.exceptions.Exit when help was printed.

    `version` applies if --kube-version is not given.
    """
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
    show_version = any(text not in ("false", "0") for text in context.params.pop("version"))
    given = {name.replace("_", "-"): texts for name, texts in context.params.items() if texts}
    if KUBE_VERSION_FLAG in given:
        version = _value(FLAGS[KUBE_VERSION_FLAG], given[KUBE_VERSION_FLAG])
    for name in given:
        if (gone := FLAGS[name].gone_since) and version >= gone:
            raise FlagError(_unknown(f"--{name}"))
    return CommandLine({name: _value(FLAGS[name], texts) for name, texts in given.items()}, show_version)


def command() -> click.Command:
    """The click command with all flags; it is only used for parsing and never invoked."""
    options: list[click.Parameter] = [_option(flag) for flag in FLAGS.values()]
    options.append(click.Option(["--version"], multiple=True, metavar="", help="Print the version and exit."))
    options.append(click.Argument(["arguments"], nargs=-1, metavar=""))
    return click.Command(
        PROGRAM,
        params=options,
        help="Service proxy of a node: watches Services and EndpointSlices and programs this node's kernel. "
        "Uses the flags and configuration file of kube-proxy.",
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
    """Each flag joined with its value, so that a value may begin with a dash; a bare boolean is true."""
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
    """The last value given, or all values joined if the kind supports that."""
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
