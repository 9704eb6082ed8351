"""The error for bad input."""

from __future__ import annotations

from harness.exit_codes import EXIT_INPUT
from harness.failure import Failure


class RecordingError(Failure, ValueError):
    """`PATH:LINE: problem; what is expected`. `line` may be a place such as "seq 7"."""

    exit_code = EXIT_INPUT

    def __init__(self, path: str, line: int | str | None, message: str) -> None:
        place = f"{path}:{line}" if line is not None else path
        super().__init__(f"{place}: {message}")
        self.path, self.line, self.message = path, line, message

    def __reduce__(self) -> tuple[type[RecordingError], tuple[str, int | str | None, str]]:
        """Makes the error picklable, so that it can be raised in another process."""
        return RecordingError, (self.path, self.line, self.message)
