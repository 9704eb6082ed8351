"""The recordings kept in `recordings/`: `python -m harness.log.synth.committed [DIRECTORY]` regenerates them."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

from harness.log import write_recording
from harness.log.events import Event, Header
from harness.log.synth.every_rule import every_rule
from harness.log.synth.generate import generate
from harness.log.synth.options import SynthOptions

COMMITTED: dict[str, Callable[[], tuple[Header, Iterable[Event]]]] = {
    "10k-svc.jsonl": partial(generate, SynthOptions(services=10_000, churn=5_000, nodes=500, seed=1)),
    "demo.jsonl": partial(generate, SynthOptions(services=41, churn=200, nodes=6, dual_stack=True, seed=19, rich=True)),
    "rules.jsonl": every_rule,
}
"""File name to the function that generates its header and events."""


def make(directory: Path) -> list[Path]:
    """Write every committed recording to `directory`; OSError if that fails."""
    made = []
    for name, generated in COMMITTED.items():
        write_recording(directory / name, *generated())
        made.append(directory / name)
    return made


if __name__ == "__main__":
    for path in make(Path(sys.argv[1] if len(sys.argv) > 1 else "recordings")):
        print(f"{path}: {path.stat().st_size} bytes")
