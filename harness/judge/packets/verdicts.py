"""Compares observed with expected fates of connections, as human-readable lines. Pure."""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Collection, Sequence

from harness.judge.behaviour import Target, socket_text
from harness.judge.oracle.packets import Fate
from harness.judge.packets.attempts import Attempt
from harness.judge.packets.questions import Question
from harness.wording import plural

_DID = {"reject": "was refused", "drop": "got no answer", "no-op": "was left alone"}
_SHOULD = {"reject": "be refused", "drop": "get no answer", "no-op": "be left alone"}


def wrong(question: Question, attempts: Sequence[Attempt], own: Collection[bytes]) -> str | None:
    """The first error in the connections of one question; `own`: addresses of the node."""
    for attempt in attempts:
        found = _wrong(question.fate, attempt, own)
        if found:
            return f"{question}: a connection {found}"
    targets = {attempt.target for attempt in attempts} if question.affinity and question.fate.kind == "dnat" else set()
    if len(targets) > 1:
        return f"{question}: one client's connections arrived at {_listed(targets)}, they should stay at one endpoint"
    return None


def _wrong(fate: Fate, attempt: Attempt, own: Collection[bytes]) -> str | None:
    if attempt.kind != fate.kind or (fate.kind == "dnat" and attempt.target not in fate.endpoints):
        return f"{_did(attempt)}, it should {_should(fate)}"
    if fate.kind == "dnat":
        return _wrong_source(fate, attempt, own)
    return None


def _did(attempt: Attempt) -> str:
    if attempt.kind == "dnat":
        return f"arrived at {place(attempt.target)}"
    return _DID.get(attempt.kind, f"could not be sent ({attempt.error})")


def _should(fate: Fate) -> str:
    if fate.kind == "dnat":
        count = len(fate.endpoints)
        return f"arrive at one of {count} endpoints" if count > 1 else f"arrive at {_listed(fate.endpoints)}"
    return _SHOULD[fate.kind]


def _wrong_source(fate: Fate, attempt: Attempt, own: Collection[bytes]) -> str | None:
    replaced = attempt.source != attempt.packet.source
    at = place(attempt.target)
    wanted = fate.masquerade or attempt.target in fate.hairpins
    if replaced != wanted and not (wanted and _itself(attempt, own)):
        seen = "the node's address" if replaced else "the client's own address"
        other = "the client's own" if replaced else "the node's"
        return f"arrived at {at} from {seen}, it should come from {other}"
    if replaced and attempt.source not in own:
        return f"arrived at {at} from {ipaddress.ip_address(attempt.source)}, which is not an address of the node"
    if not attempt.answered and attempt.arrivals[-1].place:
        return f"arrived at {at}, but its answer did not come from the requested address"
    return None


def _itself(attempt: Attempt, own: Collection[bytes]) -> bool:
    """Whether the node as client may choose another source itself: IPv6 takes the most similar (RFC 6724)."""
    source, target = attempt.packet.source, attempt.target[0]
    alike = {address: _common(address, target) for address in own if len(address) == len(target) == 16}
    return source in alike and alike[source] == max(alike.values())


def _common(one: bytes, other: bytes) -> int:
    """The number of leading bits that two addresses share."""
    return 8 * len(one) - (int.from_bytes(one) ^ int.from_bytes(other)).bit_length()


def never_chosen(question: Question, counts: Counter[Target], connections: int) -> str | None:
    """Report endpoints without any connection."""
    missing = question.fate.endpoints - counts.keys()
    if not missing:
        return None
    count = len(question.fate.endpoints)
    return f"{question}: {_listed(missing)} got none of {plural(connections, 'connection')} over {count} endpoints"


def uneven(question: Question, counts: Counter[Target], chance: float) -> str:
    """Report counts that are unlikely in an even distribution."""
    most, least = max(counts.values()), min(counts[end] for end in question.fate.endpoints)
    return (
        f"{question}: endpoints got between {least} and {most} of {counts.total()} connections each, which an even"
        f" distribution yields with probability {chance:.1g}, twice in a row"
    )


def place(target: tuple[bytes, int]) -> str:
    """An address and port in the usual notation."""
    return socket_text(*target)


def _listed(targets: Collection[Target]) -> str:
    return ", ".join(place(target) for target in sorted(targets)[:4])
