"""The tables of docs/configuration.md, generated from the code: `python -m tests.server.reference` updates them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
from msgspec import Struct

from engine.server.config.configuration import KubeProxyConfiguration, file_name
from engine.server.config.flag_values import BOOL
from engine.server.config.flags import BESIDE_CONFIG, FLAGS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "configuration.md"
MARK = "<!-- {}: python -m tests.server.reference -->"
WITHOUT_FLAG = {
    "acceptContentTypes": "Accepted without effect; JSON is requested.",
    "nftables.masqueradeBit": "The mark's bit, in mode nftables.",
    "hostnameOverride": "Name of this node; overridden by `--hostname-override`.",
    "winkernel": "Windows only; accepted without effect.",
    "windowsRunAsService": "Windows only; accepted without effect.",
}


class Field(NamedTuple):
    """One field of the file: its path in our types, its name in the file, and its default."""

    path: str
    name: str
    default: object


def fields(kind: type[Struct] = KubeProxyConfiguration, path: str = "") -> Iterator[Field]:
    """Every leaf field, in the file's order."""
    for each in msgspec.structs.fields(kind):
        here = f"{path}{each.name}"
        default = getattr(kind(), each.name)
        if isinstance(default, Struct):
            yield from fields(type(default), f"{here}.")
        else:
            yield Field(here, ".".join(map(file_name, here.split("."))), default)


def shown(value: object) -> str:
    """A default in the file's syntax."""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple | dict):
        return "`{}`" if isinstance(value, dict) else "`[]`"
    return f"`{value}`" if str(value) else '`""`'


def field_table() -> str:
    """Field, default, flag, meaning."""
    rows = ["| field | default | flag | meaning |", "| --- | --- | --- | --- |"]
    for each in fields():
        flags = [flag for flag in FLAGS.values() if each.path in flag.targets]
        meaning = flags[0].help if flags else next(text for name, text in WITHOUT_FLAG.items() if name in each.name)
        names = ", ".join(f"`--{flag.name}`" for flag in flags)
        rows.append(f"| `{each.name}` | {shown(each.default)} | {names} | {meaning} |")
    return "\n".join(rows)


def flag_table() -> str:
    """Flags that set no field, that are used together with --config, or that are deprecated."""
    rows = ["| flag | value | with `--config` | meaning |", "| --- | --- | --- | --- |"]
    for flag in FLAGS.values():
        beside = flag.name in BESIDE_CONFIG or flag.logs
        if flag.targets and not beside and not flag.deprecated:
            continue
        short = "`-v`, " if flag.name == "v" else ""
        value = "" if flag.kind is BOOL else f"`{flag.kind.metavar}`"
        counts = "used" if beside else "" if flag.name == "config" else "ignored"
        note = " Deprecated." if flag.deprecated else ""
        rows.append(f"| {short}`--{flag.name}` | {value} | {counts} | {flag.help}{note} |")
    return "\n".join(rows)


TABLES = {"fields": field_table, "flags": flag_table}


def renewed(page: str) -> str:
    """The page with its tables generated again; a table ends at the first empty line."""
    for name, table in TABLES.items():
        before, mark, rest = page.partition(MARK.format(name))
        after = rest.lstrip("\n").partition("\n\n")[2]
        page = f"{before}{mark}\n\n{table()}\n\n{after}"
    return page


if __name__ == "__main__":
    PAGE.write_text(renewed(PAGE.read_text()))
