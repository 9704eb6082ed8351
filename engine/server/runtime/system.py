"""Privileged setup of the machine at start: sysctls, out-of-memory score (CT-06, CT-07)."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from engine.config import NEWEST
from engine.server.api.events import EventSender
from engine.server.config.configuration import Conntrack
from engine.server.runtime.host import load_module, read_sysctl, write_sysctl
from engine.server.runtime.logs import get_log

HASH_SIZE = Path("/sys/module/nf_conntrack/parameters/hashsize")
ONLINE = Path("/sys/devices/system/cpu/online")
READ_ONLY = (
    "CRI error: /sys is read-only: cannot modify conntrack limits, problems may arise later "
    "(If running Docker, see docker issue #24000)"
)
MAX_BY_CPUS, CAPPED_SINCE = 1_048_576, (1, 36)
ONLY_RAISED_SINCE = (1, 37)
_READ_ONLY_ERRORS = (errno.EROFS, errno.EACCES, errno.EPERM)

_log = get_log(__name__)


class SetupError(RuntimeError):
    """A required setting could not be made."""


def set_oom_score(score: int) -> None:
    """Set the out-of-memory score of this process; a failure is only logged (CLN-06)."""
    try:
        Path("/proc/self/oom_score_adj").write_text(f"{score}\n")
    except OSError as error:
        _log.info("Failed to apply OOM score", v=2, err=error)


def conntrack_max(settings: Conntrack, cpus: int, version: tuple[int, int] = NEWEST) -> int:
    """The conntrack limit; the part computed from CPUs is at most MAX_BY_CPUS; 0 keeps the limit (CT-06a)."""
    if settings.max_per_core <= 0:
        return 0
    by_cpus = settings.max_per_core * cpus
    if version < CAPPED_SINCE:
        return max(by_cpus, settings.min)
    return MAX_BY_CPUS if by_cpus > MAX_BY_CPUS else max(by_cpus, settings.min)


def set_conntrack(settings: Conntrack, recorder: EventSender, version: tuple[int, int] = NEWEST) -> None:
    """Write the configured limits and timeouts; SetupError if one is rejected (CT-06b)."""
    try:
        _set_conntrack(settings, recorder, version)
    except SetupError as error:
        if version < CAPPED_SINCE:
            raise
        raise SetupError(f"could not set conntrack parameters from kube-proxy configuration: {error}") from None


def _set_conntrack(settings: Conntrack, recorder: EventSender, version: tuple[int, int]) -> None:
    limit = conntrack_max(settings, _cpus(), version)
    if read_sysctl("net/netfilter/nf_conntrack_max") is None:
        load_module("nf_conntrack")
    if limit:
        now = int(read_sysctl("net/netfilter/nf_conntrack_max") or 0)
        if version < ONLY_RAISED_SINCE or now < limit:
            _set("net/netfilter/nf_conntrack_max", limit)
        _set_hash_size(limit // 4, recorder, version)
    timeouts = {
        "tcp_timeout_established": settings.tcp_established_timeout,
        "tcp_timeout_close_wait": settings.tcp_close_wait_timeout,
        "udp_timeout": settings.udp_timeout,
        "udp_timeout_stream": settings.udp_stream_timeout,
    }
    for name, timeout in timeouts.items():
        if timeout.seconds >= 1:
            _set(f"net/netfilter/nf_conntrack_{name}", int(timeout.seconds))
    if settings.tcp_be_liberal:
        _set("net/netfilter/nf_conntrack_tcp_be_liberal", 1)


def _set(name: str, value: int) -> None:
    """Set a sysctl.  A network namespace other than the initial one may not set the limit, which is then kept."""
    before = read_sysctl(name)
    try:
        write_sysctl(name, value)
    except OSError as error:
        if before is not None and _foreign_namespace():
            _log.warning("Cannot be set in this network namespace", sysctl=name, value=before, wanted=value)
            return
        raise SetupError(f"can't set sysctl {name} to {value}: {error.strerror}") from None


def _foreign_namespace() -> bool:
    """Whether this is not the network namespace of process 1, or that cannot be determined."""
    try:
        return os.stat("/proc/self/ns/net").st_ino != os.stat("/proc/1/ns/net").st_ino
    except OSError:
        return True


def _set_hash_size(size: int, recorder: EventSender, version: tuple[int, int]) -> None:
    """Grow the hash table if this namespace may.  Up to 1.35 a read-only /sys is only reported."""
    try:
        if int(HASH_SIZE.read_text()) < size:
            HASH_SIZE.write_text(f"{size}\n")
    except OSError as error:
        denied = error.errno in (errno.EACCES, errno.EPERM) and _foreign_namespace()
        if denied or error.errno == errno.EOPNOTSUPP:
            _log.warning("Cannot be set in this network namespace", parameter="nf_conntrack.hashsize", wanted=size)
            return
        read_only = error.errno in _READ_ONLY_ERRORS and version < CAPPED_SINCE
        if not read_only and not isinstance(error, FileNotFoundError):
            raise SetupError(f"can't set conntrack hash size to {size}: {error.strerror}") from None
        _log.warning(READ_ONLY)
        recorder.node_event("Warning", "readOnlySysFS", "LimitConntrack", READ_ONLY)


def _cpus() -> int:
    """Number of online logical CPUs of the machine, else of those that this process may use."""
    try:
        return online_cpus(ONLINE.read_text())
    except (OSError, ValueError):
        return len(os.sched_getaffinity(0))


def online_cpus(text: str) -> int:
    """The number of CPUs in a list of ranges such as `0-3,6`."""
    ranges = (part.partition("-") for part in text.strip().split(","))
    return sum(int(last or first) - int(first) + 1 for first, _, last in ranges)
