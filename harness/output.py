"""Files that commands write: an existing file is replaced only after everything has succeeded.

A regular file is written to a temporary file beside it and renamed.  A device, a pipe or an open file named by /dev or
/proc is written directly, and symbolic links are followed: none of these is ever replaced.
"""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from harness.exit_codes import EXIT_INPUT
from harness.failure import Failure

READER_SECONDS = 10.0
"""Time to wait for a reader of a named pipe."""


class OutputError(Failure, OSError):
    """`PATH: cannot be written: why`."""

    exit_code = EXIT_INPUT

    def __init__(self, path: str, error: OSError) -> None:
        self.strerror = error.strerror or str(error)
        super().__init__(f"{path}: cannot be written: {self.strerror}")


class Output:
    """An open target: write to `file`, then `commit` or `discard`. Raises OutputError if it cannot be written."""

    def __init__(self, path: str | Path, mode: int = 0o666) -> None:
        self.path, self._partial = str(path), ""
        self._real = os.path.realpath(self.path)
        try:
            self.file = self._open(mode)
        except OSError as error:
            self._forget()
            raise OutputError(self.path, error) from None

    def commit(self) -> None:
        """Everything is written: move it into place."""
        try:
            self.file.close()
            if self._partial:
                os.replace(self._partial, self._real)
        except OSError as error:
            self.discard()
            raise OutputError(self.path, error) from None
        self._forget()

    def discard(self) -> None:
        """Keep the previous file. Does nothing after `commit`."""
        with contextlib.suppress(OSError, AttributeError):  # an interrupted open has created no file yet
            self.file.close()
        if self._partial:
            Path(self._partial).unlink(missing_ok=True)
        self._forget()

    def _forget(self) -> None:
        self._partial = ""
        atexit.unregister(self.discard)

    def _open(self, mode: int) -> BinaryIO:
        try:
            there = os.stat(self.path)
        except FileNotFoundError:
            there = None
        if there is not None and stat.S_ISDIR(there.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        if _through(self.path, there):
            return os.fdopen(_opened(self.path), "wb")
        self._partial = f"{self._real}.partial"
        # A signal may arrive before the caller has this object.
        atexit.register(self.discard)
        file = os.fdopen(os.open(self._partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "wb")
        if there is not None and mode == 0o666:
            with contextlib.suppress(OSError):
                os.fchmod(file.fileno(), stat.S_IMODE(there.st_mode))
        return file


@contextlib.contextmanager
def whole_file(path: str | Path, mode: int = 0o666) -> Iterator[BinaryIO]:
    """Write a complete file or nothing; OutputError if it cannot be opened, written or renamed."""
    output = Output(path, mode)
    try:
        yield output.file
    except BaseException:
        output.discard()
        raise
    output.commit()


def _through(path: str, there: os.stat_result | None) -> bool:
    """Whether to write directly: to a device, a pipe, or a name for an open file such as /dev/stdout."""
    folder = os.path.realpath(os.path.dirname(os.path.abspath(path)))
    named = path.startswith("/dev/std") or folder.startswith("/proc/") or folder == "/dev/fd"
    return there is not None and (named or not stat.S_ISREG(there.st_mode))


def _opened(path: str) -> int:
    """A descriptor in append mode. Waits a limited time for the reader of a named pipe."""
    end = time.monotonic() + READER_SECONDS
    while True:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NONBLOCK)
            os.set_blocking(descriptor, True)
            return descriptor
        except OSError as error:
            if error.errno != errno.ENXIO or not stat.S_ISFIFO(os.stat(path).st_mode):
                raise
            if time.monotonic() > end:
                raise OSError(errno.ENXIO, f"no reader opened this pipe within {READER_SECONDS:g} s") from None
        time.sleep(0.05)
