"""The recordings kept in `recordings/`: `python -m harness.synth.committed [DIRECTORY]` makes them again."""

from __future__ import annotations

import sys
from pathlib import Path

from harness.recording import write_recording
from harness.synth.generate import generate
from harness.synth.options import Options

COMMITTED = {
    "10k-svc.jsonl": Options(services=10_000, churn=5_000, nodes=500, seed=1),
    "demo.jsonl": Options(services=41, churn=200, nodes=6, seed=7),
}
"""File name to what it is generated from."""


def make(directory: Path) -> list[Path]:
    """Write every committed recording to `directory`; OSError when that fails."""
    made = []
    for name, options in COMMITTED.items():
        write_recording(directory / name, *generate(options))
        made.append(directory / name)
    return made


if __name__ == "__main__":
    for path in make(Path(sys.argv[1] if len(sys.argv) > 1 else "recordings")):
        print(f"{path}: {path.stat().st_size} bytes")
