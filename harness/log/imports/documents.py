"""Documents of a YAML stream or of JSON, one at a time, each with the line on which it begins."""

from __future__ import annotations

import codecs
import gzip
import io
import itertools
import json
import re
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import yaml
import zstandard

from harness.log import RecordingError

_MARKER = re.compile(r"---(?=\s|$)")
_SOLID = re.compile(r"\S")
_MAGIC = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd"}


class Document(NamedTuple):
    """One object of a source: its number, from 1, and its first line."""

    number: int
    line: int
    value: dict[str, Any]


class _Loader(yaml.CSafeLoader):
    """YAML types as in Kubernetes: times, and everything else that JSON lacks, are text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.CSafeLoader.yaml_implicit_resolvers.items()
}


def documents(path: str) -> Iterator[Document]:
    """All non-empty documents of a file (plain, .gz, .zst) or `-`; RecordingError with the line."""
    with _opened(path) as text:
        try:
            first = text.readline().removeprefix("\ufeff")
            lines = itertools.chain([first], text)
            parts = _json(path, lines) if first.lstrip()[:1] in ("{", "[") else _yaml(path, lines)
            for number, (line, value) in enumerate(parts, 1):
                if not isinstance(value, dict):
                    raise RecordingError(path, line, f"document {number} is {_brief(value)}; an object is needed")
                yield Document(number, line, value)
        except UnicodeDecodeError as error:
            if bytes(error.object[:2]) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
                raise RecordingError(path, 1, "UTF-16 text, as PowerShell's > writes it: save it as UTF-8") from None
            raise RecordingError(path, None, f"not UTF-8 text ({error.reason}); YAML or JSON is needed") from None
        except (zstandard.ZstdError, EOFError, gzip.BadGzipFile) as error:
            raise RecordingError(path, None, f"cannot be decompressed: {error}") from None


def _yaml(path: str, lines: Iterator[str]) -> Iterator[tuple[int, Any]]:
    """A line that begins with three dashes always begins a document, so documents are cut before they are parsed."""
    piece: list[str] = []
    start = 1
    for number, line in enumerate(lines, 1):
        if _MARKER.match(line):
            yield from _parsed(path, start, piece)
            piece, start = [line[3:]], number
        else:
            piece.append(line)
    yield from _parsed(path, start, piece)


def _parsed(path: str, start: int, lines: list[str]) -> Iterator[tuple[int, Any]]:
    """The document in these lines; comments, directives and blanks alone are not a document."""
    empty = 0
    while empty < len(lines) and (not lines[empty].strip() or lines[empty].lstrip()[0] in "#%"):
        empty += 1
    if empty == len(lines):
        return
    try:
        value = yaml.load("".join(lines), _Loader)  # noqa: S506 - a safe loader
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = start + min(mark.line if mark else 0, len(lines) - 1)
        raise RecordingError(path, line, f"not YAML: {error.problem or error.context}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise RecordingError(path, start, f"not YAML: {error}") from None
    if value is not None:
        yield start + empty, value


def _json(path: str, lines: Iterator[str]) -> Iterator[tuple[int, Any]]:
    """Concatenated JSON values, as printed by kubectl's watch."""
    text = "".join(lines)
    decoder, offset, line = json.JSONDecoder(), 0, 1
    while found := _SOLID.search(text, offset):
        line += text.count("\n", offset, found.start())
        offset = found.start()
        try:
            value, end = decoder.raw_decode(text, offset)
        except json.JSONDecodeError as error:
            at = text.count("\n", 0, error.pos) + 1
            raise RecordingError(path, at, f"not JSON: {error.msg}; the output may be truncated") from None
        except RecursionError:
            raise RecordingError(path, line, "nested too deeply") from None
        yield line, value
        line += text.count("\n", offset, end)
        offset = end


def _opened(path: str) -> io.TextIOWrapper:
    """The source as text, decompressed by its first bytes."""
    try:
        raw = open(sys.stdin.fileno() if path == "-" else path, "rb", closefd=path != "-")
    except IsADirectoryError:
        raise RecordingError(path, None, "is a directory; give a file in it") from None
    except OSError as error:
        raise RecordingError(path, None, f"cannot be read: {error.strerror}") from None
    start = raw.peek(4)[:4]
    form = next((name for magic, name in _MAGIC.items() if start.startswith(magic)), None)
    if form == "gzip":
        return io.TextIOWrapper(gzip.GzipFile(fileobj=raw), encoding="utf-8")
    if form == "zstd":
        whole = zstandard.ZstdDecompressor().stream_reader(raw, read_across_frames=True, closefd=True)
        return io.TextIOWrapper(io.BufferedReader(whole), encoding="utf-8")
    return io.TextIOWrapper(raw, encoding="utf-8")


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
