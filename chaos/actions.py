"""Actions for Chaos Toolkit experiments (provider module `chaos.actions`)."""

from __future__ import annotations

from typing import Any

import msgspec
from chaoslib.exceptions import ActivityFailed

from chaos.session import SessionError, session_of
from harness.places import vm

__all__ = ["inject", "settle"]


def inject(
    fault: str,
    seconds: float = 5.0,
    parameters: dict[str, Any] | None = None,
    optional: bool = False,
    configuration: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Inject a fault for that many seconds, heal it, and wait until the cluster has settled.

    An `optional` fault is skipped if the target does not support it, which the verdict reports.

    Its targets were chosen by the plan before the run began.  The result is returned; a fault that could not be
    injected or healed does not end the experiment, but makes its verdict unknown.  If the cluster does not settle
    after a fault, all further faults fail.  `configuration` is passed by Chaos Toolkit.
    """
    try:
        done = session_of(configuration).inject(fault)
    except SessionError as error:
        raise ActivityFailed(str(error)) from error
    if isinstance(done, str):
        return {"skipped": done}
    return dict(msgspec.to_builtins(done))


def settle(seconds: float = 60.0, configuration: dict[str, Any] | None = None) -> bool:
    """Wait until pods are ready, engines healthy and kernels up to date; `configuration` is passed by Chaos Toolkit."""
    if not session_of(configuration).settle(seconds * vm.patience()):
        raise ActivityFailed(f"the cluster did not settle within {seconds:g} s")
    return True
