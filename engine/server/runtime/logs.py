"""Structured logs in the formats of Kubernetes components: klog text or JSON, one line per event.

    log = get_log(__name__)
    log.info("Adding service", name="default/web", v=2)
    log.error(error, "Sync failed", family=4)

The message of a line is constant; variable data goes into its key-value pairs.  `v` is the minimum verbosity at which
an info line is written: 0 always, 2 usually, 4 and more for debugging.
"""

from __future__ import annotations

import fnmatch
import json
import logging
import os
import sys
import traceback
from datetime import UTC, datetime
from typing import TextIO

from engine.model import Name
from engine.server.config.configuration import Logging

ROOT = "proxy-engine"
OTHERS = ("engine", "py.warnings", "urllib3", "kubernetes")
"""Loggers of the standard library, used by pure modules and libraries; their warnings get the same format."""
_SEVERITIES = {logging.INFO: "I", logging.WARNING: "W", logging.ERROR: "E"}


class ModuleLog:
    """The log of one module; verbosity and format of the process are set by `configure`."""

    def __init__(self, module: str) -> None:
        self._logger = logging.getLogger(f"{ROOT}.{module.rpartition('.')[2]}")

    def enabled(self, v: int) -> bool:
        """Whether an info line of verbosity `v` would be written; check before computing costly values."""
        return v <= _verbosity(self._logger.name)

    def info(self, message: str, /, v: int = 0, **pairs: object) -> None:
        """Information, written from verbosity `v` on."""
        if self.enabled(v):
            self._write(logging.INFO, message, {"v": v} if v else {}, pairs)

    def warning(self, message: str, /, **pairs: object) -> None:
        """A warning."""
        self._write(logging.WARNING, message, {}, pairs)

    def error(self, error: object, message: str, /, **pairs: object) -> None:
        """A failure and its cause; `error` may be None."""
        self._write(logging.ERROR, message, {"err": error} if error is not None else {}, pairs)

    def _write(self, level: int, message: str, first: dict[str, object], pairs: dict[str, object]) -> None:
        extra = {"v": first.pop("v", 0), "pairs": first | pairs}
        self._logger.log(level, message, extra=extra, stacklevel=3)


def get_log(module: str) -> ModuleLog:
    """The log of a module, by its `__name__`."""
    return ModuleLog(module)


class _Settings:
    verbosity = 0
    patterns: tuple[tuple[str, int], ...] = ()


def _verbosity(logger: str) -> int:
    """The verbosity of a module: that of its first matching pattern, else the general one."""
    name = logger.rpartition(".")[2]
    matching = (level for pattern, level in _Settings.patterns if fnmatch.fnmatchcase(name, pattern))
    return next(matching, _Settings.verbosity)


def configure(settings: Logging, stdout: TextIO | None = None, stderr: TextIO | None = None) -> None:
    """Set format, verbosity and streams for the process; may be called again."""
    options = getattr(settings.options, settings.format)
    formatter = JsonFormatter() if settings.format == "json" else TextFormatter()
    errors = logging.StreamHandler(stderr or sys.stderr)
    handlers = [errors]
    if options.split_stream:
        errors.setLevel(logging.ERROR)
        infos = logging.StreamHandler(stdout or sys.stdout)
        infos.addFilter(lambda record: record.levelno < logging.ERROR)
        handlers.append(infos)
    root = logging.getLogger(ROOT)
    root.propagate = False
    for name, level in ((ROOT, logging.INFO), *((other, logging.WARNING) for other in OTHERS)):
        logger = logging.getLogger(name)
        logger.handlers[:] = handlers
        logger.setLevel(level)
    logging.captureWarnings(True)
    for handler in handlers:
        handler.setFormatter(formatter)
    _Settings.verbosity = settings.verbosity
    _Settings.patterns = tuple((each.file_pattern, each.verbosity) for each in settings.vmodule)


class TextFormatter(logging.Formatter):
    """`I1124 18:39:35.123456    4711 proxier.py:12] "Message" key="value"`, times in UTC."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        moment = datetime.fromtimestamp(record.created, UTC).strftime("%m%d %H:%M:%S.%f")
        head = f"{_SEVERITIES.get(record.levelno, 'E')}{moment} {os.getpid():7d} {record.filename}:{record.lineno}]"
        pairs = "".join(f" {key}={_text(value)}" for key, value in _pairs(record).items())
        return f"{head} {_quoted(record.getMessage())}{pairs}"


class JsonFormatter(logging.Formatter):
    """`{"ts": milliseconds, "caller": "file:line", "msg": ..., "v": 0, key: value}`; errors carry "err", not "v"."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        line = {"ts": round(record.created * 1e3, 3), "caller": f"{record.filename}:{record.lineno}"}
        line["msg"] = record.getMessage()
        if record.levelno < logging.ERROR:
            line["v"] = getattr(record, "v", 0)
        return json.dumps(line | _pairs(record), default=str, ensure_ascii=False)


def _pairs(record: logging.LogRecord) -> dict[str, object]:
    """The pairs of a line, with object names as text; for a standard library log call also its exception."""
    pairs = {
        key: str(value) if isinstance(value, Name) else value for key, value in getattr(record, "pairs", {}).items()
    }
    if record.exc_info and record.exc_info[1] is not None:
        pairs["err"] = record.exc_info[1]
        pairs["stacktrace"] = "".join(traceback.format_exception(*record.exc_info))
    return pairs


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else _quoted(str(value))


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
