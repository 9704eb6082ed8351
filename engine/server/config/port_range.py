"""Port ranges in Kubernetes' syntax: "80", "80-90", "80+10"; validated, without effect (CLI-03)."""

from __future__ import annotations

import re

_RANGE = re.compile(r"(\d{1,9})(?:([-+])(\d{1,9}))?", re.ASCII)


def is_port_range(text: str) -> bool:
    """Whether the text is empty or a valid range within 0 to 65535."""
    form = _RANGE.fullmatch(text.strip())
    if form is None:
        return not text.strip()
    low, size = int(form[1]), int(form[3] or 0)
    high = size if form[2] == "-" else low + size
    return low <= high <= 65535
