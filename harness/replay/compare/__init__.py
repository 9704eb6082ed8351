"""One recording in several modes: one run per mode, and where the modes behave differently."""

from harness.replay.compare.runs import Run, run_mode

__all__ = ["Run", "run_mode"]
