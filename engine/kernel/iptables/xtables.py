"""Tables of ip_tables and ip6_tables, read and replaced by socket options under the tool's lock, as the tool does.

A table is read once.  It is read again if the kernel reports a different size than expected, or if another
program held the lock in between: a program must hold the lock to change a table.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import socket
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from engine.kernel.interface import KernelError
from engine.kernel.iptables.blob import NEW, Blob, Info, Kept

MakeSocket = Callable[[int, int, int], socket.socket]

LOCK = "/run/xtables.lock"
_WAIT_SECONDS, _LOOK_SECONDS = 5.0, 0.1
_FAMILIES = {4: (socket.AF_INET, 0), 6: (socket.AF_INET6, 41)}
"""Address family and the level of the options (SOL_IP, SOL_IPV6)."""
_SET_REPLACE, _SET_ADD_COUNTERS = 64, 65
_GET_INFO, _GET_ENTRIES = 64, 65
_INFO = struct.Struct("=32sI5I5III")
_REPLACE = struct.Struct("=32sIII5I5IIQ")
_ENTRIES_HEADER, _COUNTERS_HEADER = struct.Struct("=32sI4x"), struct.Struct("=32sI4x")
_COUNTER_BYTES = 16
_OTHERS = 0x8 | 0x10 | 0x20 | 0x4 | 0x400 | 0x800
"""inotify events: the file was closed, opened or replaced."""
_libc = ctypes.CDLL(None, use_errno=True)


class Xtables:
    """The tables of one network namespace; OSError if the kernel refuses."""

    def __init__(self, make_socket: MakeSocket, lock: str = LOCK) -> None:
        self._make_socket = make_socket
        self._sockets: dict[int, socket.socket] = {}
        self._lock = _Lock(lock)
        self._blobs: dict[tuple[int, str], Blob] = {}

    def close(self) -> None:
        """Close the sockets and the lock file."""
        for sock in self._sockets.values():
            sock.close()
        self._sockets.clear()
        self._lock.close()

    @contextmanager
    def held(self) -> Iterator[None]:
        """Holds the lock, so that no other program changes a table."""
        with self._lock:
            if self._lock.others():
                self._blobs.clear()
            yield

    def forget(self) -> None:
        """Drop the cached tables."""
        self._blobs.clear()

    def table(self, family: int, name: str) -> Blob:
        """The content of a table."""
        info = self._info(family, name)
        blob = self._blobs.get((family, name))
        if blob is None or blob.info != info:
            self._blobs.pop((family, name), None)
            blob = self._blobs[family, name] = Blob(family, info, self._entries(family, name, info.size), _REPLACE.size)
        return blob

    def unchanged(self, family: int, names: Iterable[str]) -> bool:
        """Whether the tables are certainly unchanged since the last write."""
        blobs = {name: self._blobs.get((family, name)) for name in names}
        if None in blobs.values():
            return False
        try:
            with self._lock.at_once():
                return not self._lock.others(peek=True) and all(
                    blob is not None and blob.info == self._info(family, name) for name, blob in blobs.items()
                )
        except OSError:  # including a lock held by another program
            return False

    def commit(self, family: int, name: str, before: Info, kept: Kept) -> int:
        """Commit a changed table, with the counters of kept entries; returns the bytes sent."""
        blob = self._blobs[family, name]
        info = blob.info
        counters = bytearray(before.entries * _COUNTER_BYTES)
        address = ctypes.addressof((ctypes.c_char * len(counters)).from_buffer(counters))
        _REPLACE.pack_into(
            blob.data, 0, name.encode(), info.hooks, info.entries, info.size, *info.begins, *info.policies,
            before.entries, address,
        )  # fmt: skip
        self._set(family, _SET_REPLACE, blob.data)
        if counters.count(0) != len(counters):
            self._set(family, _SET_ADD_COUNTERS, _carried(name, info.entries, counters, kept))
        return len(blob.data)

    def _info(self, family: int, name: str) -> Info:
        buffer = bytearray(_INFO.size)
        _INFO.pack_into(buffer, 0, name.encode(), *[0] * 13)
        self._get(family, _GET_INFO, buffer)
        _, hooks, *rest = _INFO.unpack(buffer)
        begins, policies = (
            tuple(offset if hooks >> hook & 1 else 0 for hook, offset in enumerate(part))
            for part in (rest[:5], rest[5:10])
        )
        return Info(hooks, begins, policies, *rest[10:])

    def _entries(self, family: int, name: str, size: int) -> bytearray:
        buffer = bytearray(_ENTRIES_HEADER.size + size)
        _ENTRIES_HEADER.pack_into(buffer, 0, name.encode(), size)
        self._get(family, _GET_ENTRIES, buffer)
        del buffer[: _ENTRIES_HEADER.size]
        return buffer

    def _get(self, family: int, option: int, buffer: bytearray) -> None:
        size = ctypes.c_uint(len(buffer))
        where = (ctypes.c_char * len(buffer)).from_buffer(buffer)
        _checked(_libc.getsockopt(*self._options(family), option, where, ctypes.byref(size)))

    def _set(self, family: int, option: int, buffer: bytearray) -> None:
        where = (ctypes.c_char * len(buffer)).from_buffer(buffer)
        _checked(_libc.setsockopt(*self._options(family), option, where, ctypes.c_uint(len(buffer))))

    def _options(self, family: int) -> tuple[int, int]:
        domain, level = _FAMILIES[family]
        if family not in self._sockets:
            self._sockets[family] = self._make_socket(domain, socket.SOCK_RAW, socket.IPPROTO_RAW)
        return self._sockets[family].fileno(), level


def _checked(result: int) -> None:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))


def _carried(name: str, entries: int, old: bytearray, kept: Kept) -> bytearray:
    """The counters of old entries, for the same entries of the new table."""
    found = bytearray(_COUNTERS_HEADER.pack(name.encode(), entries))
    for first, count in kept:
        if first == NEW:
            found += bytes(count * _COUNTER_BYTES)
        else:
            found += old[first * _COUNTER_BYTES : (first + count) * _COUNTER_BYTES]
    return found + bytes(_COUNTERS_HEADER.size + entries * _COUNTER_BYTES - len(found))


class _Lock:
    """The tools' lock file, and whether another program has held it."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._file = self._watch = -1
        self._seen = True

    def __enter__(self) -> None:
        end = time.monotonic() + _WAIT_SECONDS
        while not self._taken():
            if time.monotonic() > end:
                raise KernelError(f"another program holds the xtables lock {self._path}")
            time.sleep(_LOOK_SECONDS)

    def __exit__(self, *_: object) -> None:
        fcntl.flock(self._file, fcntl.LOCK_UN)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Holds the lock; BlockingIOError if another program does."""
        if not self._taken():
            raise BlockingIOError
        try:
            yield
        finally:
            self.__exit__()

    def _taken(self) -> bool:
        if self._file < 0 or not self._current():
            self.close()
            self._open()
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def others(self, peek: bool = False) -> bool:
        """Whether another program may have held the lock since the last call; `peek` keeps the answer for the next."""
        if self._watch < 0:
            return True
        try:
            self._seen = bool(os.read(self._watch, 1 << 16)) or self._seen
        except BlockingIOError:
            pass
        seen = self._seen
        self._seen = self._seen and peek
        return seen

    def _current(self) -> bool:
        """Whether the tools would lock the same file."""
        try:
            return os.path.samestat(os.stat(self._path), os.fstat(self._file))
        except FileNotFoundError:
            return False

    def close(self) -> None:
        """Close the file."""
        for descriptor in (self._file, self._watch):
            if descriptor >= 0:
                os.close(descriptor)
        self._file = self._watch = -1

    def _open(self) -> None:
        self._file = os.open(self._path, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._seen = True
        self._watch = _libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self._watch >= 0 and _libc.inotify_add_watch(self._watch, self._path.encode(), _OTHERS) < 0:
            os.close(self._watch)
            self._watch = -1
