"""The result for one objective, and the names of its three values.  Pure."""

from __future__ import annotations

import msgspec

WORDS = {True: "true", False: "false", None: "unknown"}


class Judgement(msgspec.Struct, frozen=True):
    """The result for one objective: `value` None is unknown, with a `reason`.

    `wanted` is the threshold, `measured` the actual value; `source` states where the number comes from, how many
    samples it is made of, and what was excluded.
    """

    objective: str
    value: bool | None
    wanted: str
    measured: str
    reason: str = ""
    source: str = ""
