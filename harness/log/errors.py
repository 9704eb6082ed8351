"""The one error of bad input."""

from __future__ import annotations


class RecordingError(ValueError):
    """`PATH:LINE: what is wrong; what would be right`. `line` may be a place such as "seq 7"."""

    def __init__(self, path: str, line: int | str | None, message: str) -> None:
        place = f"{path}:{line}" if line is not None else path
        super().__init__(f"{place}: {message}")
        self.path, self.line, self.message = path, line, message
