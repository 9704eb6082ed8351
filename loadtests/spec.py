"""The specification of a load, as JSON: where it runs, what it sends, and at which rate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from harness.lab.answers import ServiceStatus


class SpecError(ValueError):
    """An invalid spec; the message says which file and why."""


class Spec(msgspec.Struct, frozen=True):
    """One load process.

    `flows` are names of `loadtests.flows.FLOWS`; `nodes` is address by name, `services` as the lab's status has
    them; `lab` is the folder of the lab to ask which endpoint a failed request went to, "" for nobody.
    With `named_answers` pods say who they are and other answers are wrong, as the lab's pods do; without, any answer
    is one: an HTTP status below 400 to `http_path`, a TCP connection that is taken, a datagram that comes back.
    `arrivals_per_user` is each locust user's share: a user is a stream of that many requests per second.
    """

    name: str
    flows: tuple[str, ...]
    nodes: dict[str, str]
    services: list[ServiceStatus]
    where: str = ""
    arrivals_per_second: float = 100.0
    arrivals_per_user: float = 5.0
    shape: dict[str, Any] = {}
    timeout_seconds: float = 1.0
    seconds: float | None = None
    seed: int = 0
    lab: str = ""
    most_in_flight: int = 4000
    named_answers: bool = True
    http_path: str = "/"


def read_spec(path: str | Path) -> Spec:
    """Read a spec; SpecError if the file is invalid."""
    try:
        return msgspec.json.decode(Path(path).read_bytes(), type=Spec)
    except (OSError, msgspec.DecodeError) as error:
        raise SpecError(f"{path}: {error}") from None
