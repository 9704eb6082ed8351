"""Enumerates all paths of one packet through random draws."""

from __future__ import annotations

from harness.judge.packet import Outcome

_PATH_LIMIT = 100_000


class Choices:
    """Enumerates every sequence of draws in order; or always repeats the same one."""

    def __init__(self, fixed: int | None = None) -> None:
        self._fixed = fixed
        self._path: list[list[int]] = []
        self._depth = 0
        self._walked = 0

    def draw(self, limit: int) -> int:
        """The next number below `limit`."""
        if self._fixed is not None:
            return self._fixed % limit
        if self._depth == len(self._path):
            self._path.append([0, limit])
        self._depth += 1
        return self._path[self._depth - 1][0]

    def advance(self) -> bool:
        """Advance to the next sequence; False if there is none."""
        self._depth = 0
        self._walked += 1
        if self._walked > _PATH_LIMIT:
            raise ValueError(f"more than {_PATH_LIMIT} paths for one packet")
        while self._path:
            self._path[-1][0] += 1
            if self._path[-1][0] < self._path[-1][1]:
                return True
            self._path.pop()
        return False


def merged(outcomes: list[Outcome]) -> Outcome:
    """The outcomes of all paths merged into one; ValueError if their kinds differ."""
    if len({outcome.kind for outcome in outcomes}) > 1:
        raise ValueError(f"draws lead to different outcomes: {sorted({o.kind for o in outcomes})}")
    endpoints = frozenset().union(*(outcome.endpoints for outcome in outcomes))
    return Outcome(outcomes[0].kind, endpoints, any(outcome.masquerade for outcome in outcomes))
