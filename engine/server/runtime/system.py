"""Privileged steps on the machine before anything is proxied: sysctls, out-of-memory score (CT-06, CT-07)."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from engine.server.configuration import Conntrack
from engine.server.events import Recorder
from engine.server.host import load_module, read_sysctl, write_sysctl
from engine.server.logs import get_log

HASH_SIZE = Path("/sys/module/nf_conntrack/parameters/hashsize")
READ_ONLY = (
    "CRI error: /sys is read-only: cannot modify conntrack limits, problems may arise later "
    "(If running Docker, see docker issue #24000)"
)
_READ_ONLY_ERRORS = (errno.EROFS, errno.EACCES, errno.EPERM)

_log = get_log(__name__)


class SetupError(RuntimeError):
    """A setting that must be made was refused."""


def set_oom_score(score: int) -> None:
    """How readily the kernel ends this process; a refusal is ignored (CLN-06)."""
    try:
        Path("/proc/self/oom_score_adj").write_text(f"{score}\n")
    except OSError as error:
        _log.info("Failed to apply OOM score", v=2, err=error)


def conntrack_max(settings: Conntrack, cpus: int) -> int:
    """Entries that connection tracking may have; 0 leaves the kernel's limit."""
    if settings.max_per_core <= 0:
        return 0
    return max(settings.max_per_core * cpus, settings.min)


def set_conntrack(settings: Conntrack, recorder: Recorder) -> None:
    """Write the limits and timeouts that are set; SetupError for what is refused but a read-only /sys."""
    limit = conntrack_max(settings, _cpus())
    if read_sysctl("net/netfilter/nf_conntrack_max") is None:
        load_module("nf_conntrack")
    if limit:
        _set("net/netfilter/nf_conntrack_max", limit)
        _set_hash_size(limit // 4, recorder)
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
    """A sysctl.  A network namespace that is not the machine's own may not set the limit: then it keeps it."""
    before = read_sysctl(name)
    try:
        write_sysctl(name, value)
    except OSError as error:
        if before is not None and _foreign_namespace():
            _log.warning("Not to be set in this network namespace", sysctl=name, value=before, wanted=value)
            return
        raise SetupError(f"can't set sysctl {name} to {value}: {error.strerror}") from None


def _foreign_namespace() -> bool:
    """Whether this is not the network namespace of the machine's first process, or that may not be known."""
    try:
        return os.stat("/proc/self/ns/net").st_ino != os.stat("/proc/1/ns/net").st_ino
    except OSError:
        return True


def _set_hash_size(size: int, recorder: Recorder) -> None:
    """Grow the hash table; /sys read-only is told and lived with, as is a namespace that may not grow it."""
    try:
        if int(HASH_SIZE.read_text()) < size:
            HASH_SIZE.write_text(f"{size}\n")
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            _log.warning("Not to be set in this network namespace", parameter="nf_conntrack.hashsize", wanted=size)
            return
        if error.errno not in _READ_ONLY_ERRORS and not isinstance(error, FileNotFoundError):
            raise SetupError(f"can't set conntrack hash size to {size}: {error.strerror}") from None
        _log.warning(READ_ONLY)
        recorder.node_event("Warning", "readOnlySysFS", "LimitConntrack", READ_ONLY)


def _cpus() -> int:
    """Physical cores, by their ids under /sys, else what Python counts."""
    cores = set()
    for cpu in Path("/sys/devices/system/cpu").glob("cpu[0-9]*"):
        try:
            package = (cpu / "topology/physical_package_id").read_text().strip()
            cores.add((package, (cpu / "topology/core_id").read_text().strip()))
        except OSError:
            return os.cpu_count() or 1
    return len(cores) or os.cpu_count() or 1
