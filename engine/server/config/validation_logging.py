"""Validation of the `logging` block, with the messages of Kubernetes' component-base."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from engine.server.config.configuration import Logging
from engine.server.config.field_errors import forbidden, invalid, required

FORMATS = ("json", "text")
HIGHEST_VERBOSITY = 2**31 - 1


def logging_errors(logging: Logging, gates: Mapping[str, bool], path: str) -> Iterator[str]:
    """All errors of the block."""
    if logging.flush_frequency <= 0:
        yield invalid(f"{path}.flushFrequency", logging.flush_frequency, "Must be greater than zero")
    if logging.format not in FORMATS:
        yield invalid(f"{path}.format", logging.format, "Unsupported log format")
    if logging.verbosity > HIGHEST_VERBOSITY:
        yield invalid(f"{path}.verbosity", logging.verbosity, f"Must be <= {HIGHEST_VERBOSITY}")
    yield from _vmodule(logging, f"{path}.vmodule")
    if not gates.get("LoggingAlphaOptions", gates.get("AllAlpha", False)):
        yield from _alpha(logging, f"{path}.options")


def _vmodule(logging: Logging, path: str) -> Iterator[str]:
    if logging.vmodule and logging.format != "text":
        yield forbidden(path, "Only supported for text log format")
    for n, item in enumerate(logging.vmodule):
        if not item.file_pattern:
            yield required(f"{path}[{n}]", "File pattern must not be empty")
        if set(item.file_pattern) & set("=,"):
            detail = "File pattern must not contain equal sign or comma"
            yield invalid(f"{path}[{n}]", item.file_pattern, detail)
        if item.verbosity > HIGHEST_VERBOSITY:
            yield invalid(f"{path}[{n}]", item.verbosity, f"Must be <= {HIGHEST_VERBOSITY}")


def _alpha(logging: Logging, path: str) -> Iterator[str]:
    for name, options in (("text", logging.options.text), ("json", logging.options.json)):
        if options.split_stream:
            yield forbidden(f"{path}.{name}.splitStream", "Feature LoggingAlphaOptions is disabled")
        if options.info_buffer_size:
            yield forbidden(f"{path}.{name}.infoBufferSize", "Feature LoggingAlphaOptions is disabled")
