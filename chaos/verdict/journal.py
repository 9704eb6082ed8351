"""Chaos Toolkit's journal of a run: whether the hypothesis held, and which activities failed.

A hypothesis that does not hold after the method is false; a failed activity proves nothing, so it is unknown.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from chaos.verdict.words import Judgement

JOURNAL = "journal.json"


def write_journal(folder: Path, journal: object) -> None:
    """Write the journal to the run's folder."""
    (folder / JOURNAL).write_bytes(msgspec.json.format(msgspec.json.encode(journal, enc_hook=str), indent=1))


def read_journal(folder: Path) -> dict[str, Any] | None:
    """None if there is none; ValueError if it cannot be read."""
    try:
        return msgspec.json.decode((folder / JOURNAL).read_bytes(), type=dict)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.MsgspecError) as error:
        raise ValueError(f"{folder}/{JOURNAL}: {error}") from None


def hypothesis(journal: dict[str, Any]) -> Judgement | None:
    """The steady-state hypothesis as an objective; None if the experiment has none."""
    wanted = (journal.get("experiment") or {}).get("steady-state-hypothesis") or {}
    if not wanted.get("probes"):
        return None
    name, states = f"hypothesis: {wanted.get('title', '')}", journal.get("steady_states") or {}
    holds = "to hold before and after"
    for when in ("before", "after"):
        state = states.get(when)
        if not state or state.get("steady_state_met") is None:
            return Judgement(name, None, holds, f"not checked {when} the method", "the experiment ended before that")
        if not state["steady_state_met"]:
            probe = state["probes"][-1]
            said = f"{_name(probe)} was not within its tolerance {when} the method"
            if probe.get("status") != "succeeded":
                return Judgement(
                    name, None, holds, "nothing", f"{_name(probe)} failed {when} the method: {_why(probe)}"
                )
            if when == "before":
                return Judgement(name, None, holds, said, "nothing was injected")
            return Judgement(name, False, holds, f"{said}: it returned {str(probe.get('output'))[:200]}")
    return Judgement(name, True, holds, "held before and after")


def failed(journal: dict[str, Any]) -> Iterator[str]:
    """Each activity of method and rollbacks that did not succeed, and why."""
    for where, part in (("method", "run"), ("rollbacks", "rollbacks")):
        for run in journal.get(part) or ():
            if run.get("status") != "succeeded":
                yield f"{_name(run)} of the {where} {run.get('status') or 'did not end'}: {_why(run)}"


def _name(run: dict[str, Any]) -> str:
    activity = run.get("activity") or {}
    return f"{activity.get('type', 'activity')} {activity.get('name', 'without a name')!r}"


def _why(run: dict[str, Any]) -> str:
    lines = [line.strip() for text in run.get("exception") or () for line in str(text).splitlines() if line.strip()]
    return lines[-1][:300] if lines else "no reason given"
