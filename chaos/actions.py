"""Actions for Chaos Toolkit experiments (provider module `chaos.actions`)."""

from __future__ import annotations

from typing import Any

import msgspec
from chaoslib.exceptions import ActivityFailed

from chaos.session import SessionError, current

__all__ = ["inject", "settle"]


def inject(fault: str, seconds: float = 5.0, parameters: dict[str, Any] | None = None) -> dict[str, Any]:
    """Inject a fault for that long, heal it, and wait until the cluster has settled.

    Whom it hits was decided by the plan before the run began.  What became of it is returned; a fault that could
    not be injected, or not be healed, does not end the experiment, but its verdict is unknown.
    """
    try:
        done = current().inject(fault)
    except SessionError as error:
        raise ActivityFailed(str(error)) from error
    return msgspec.to_builtins(done)


def settle(seconds: float = 60.0) -> bool:
    """Wait until pods are ready, engines healthy and kernels up to date."""
    if not current().settle(seconds):
        raise ActivityFailed(f"the cluster did not settle within {seconds:g} s")
    return True
