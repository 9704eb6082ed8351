"""The specification of a load, as JSON: where it runs, what it sends, and at what rate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from harness.lab.answers import ServiceStatus


class SpecError(ValueError):
    """An invalid spec; the message says which file and why."""


class Spec(msgspec.Struct, frozen=True):
    """One load process.

    `flows` are names of `loadtests.flows.FLOWS`; `nodes` is address by name, `services` are as in the lab's
    status; `lab` is the folder of the lab that knows the endpoints of failed requests, "" if there is none.
    With `named_answers` a correct answer identifies its pod, as those of the lab's pods do; without, any answer is
    correct: an HTTP status below 400 to `http_path`, an accepted TCP connection, any datagram.
    `arrivals_per_user`: the requests per second of each locust user.
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
