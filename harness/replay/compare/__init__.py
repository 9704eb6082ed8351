"""One recording in several modes: one run per mode, and where the modes behave differently."""

from harness.replay.compare.runs import ModeRun, run_mode

__all__ = ["ModeRun", "run_mode"]
