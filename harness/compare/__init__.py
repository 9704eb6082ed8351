"""One recording in several modes: a run each, and where the modes mean different things by it."""

from harness.compare.runs import Run, run_mode

__all__ = ["Run", "run_mode"]
