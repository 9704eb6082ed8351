"""/statusz and /flagz, for people: plain text without a stable format (MET-09)."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterable
from importlib.metadata import version as installed_version
from typing import Any

from engine.server.api.events import CONTROLLER
from engine.server.config.flags import FLAGS
from engine.server.config.options import EngineOptions

_WARNING = "Warning: This page is for debugging. Its format may change at any time; do not parse it.\n"
_TIME = "%a %b %e %H:%M:%S UTC %Y"


def statusz(options: EngineOptions, paths: Iterable[str], started: float, clock: Callable[[], float]) -> str:
    """Start time, uptime, versions and paths of this process; times in seconds since 1970."""
    minutes, seconds = divmod(int(clock() - started), 60)
    hours, minutes = divmod(minutes, 60)
    release = ".".join(map(str, options.version))
    lines = [
        f"Started: {time.strftime(_TIME, time.gmtime(started))}",
        f"Up: {hours} hr {minutes:02d} min {seconds:02d} sec",
        f"Python version: {platform.python_version()}",
        f"Binary version: {installed_version('kube-proxy-harness')}",
        f"Emulation version: {release}",
        f"Paths: {' '.join(sorted(paths))}",
    ]
    return _page("statusz", lines)


def flagz(options: EngineOptions) -> str:
    """Every flag with the value in effect; with a configuration file, that of the file."""
    own = {
        "config": options.config_file,
        "master": options.master,
        "cleanup": options.cleanup,
        "init-only": options.init_only,
        "hostname-override": options.configuration.hostname_override,
        "kube-version": ".".join(map(str, options.version)),
    }
    shown = {name: own.get(name, "") for name, flag in FLAGS.items() if not flag.deprecated}
    for name, flag in FLAGS.items():
        if flag.targets:
            shown[name] = _at(options.configuration, flag.targets[0])
    return _page("flagz", (f"{name}={_text(value)}" for name, value in sorted(shown.items())))


def _page(name: str, lines: Iterable[str]) -> str:
    return f"\n{CONTROLLER} {name}\n{_WARNING}\n" + "".join(f"{line}\n" for line in lines)


def _at(value: Any, path: str) -> Any:
    for name in path.split("."):
        value = getattr(value, name)
    return value


def _text(value: Any) -> str:
    """A value in the syntax of its flag."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict):
        return ",".join(f"{key}={_text(each)}" for key, each in sorted(value.items()))
    if isinstance(value, tuple):
        return ",".join(map(_text, value))
    if hasattr(value, "file_pattern"):
        return f"{value.file_pattern}={value.verbosity}"
    return str(value)
