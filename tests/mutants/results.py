"""The findings so far, in a JSON file that is complete at every moment."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path
from typing import Any

from tests.mutants.gates import Figures, Finding


class Results:
    """Findings by mutant and gate, and the unmodified engine's figures by gate and mode."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._data: dict[str, Any] = {"baseline": {}, "found": {}}
        if path.exists():
            self._data = json.loads(path.read_text())

    def finding(self, mutant: str, gate: str) -> Finding | None:
        """The gate's finding about the mutant, None before it has run."""
        found = self._data["found"].get(mutant, {}).get(gate)
        return Finding(**found) if found else None

    def add(self, mutant: str, gate: str, finding: Finding) -> None:
        """Store a finding, also on disk."""
        with self._lock:
            self._data["found"].setdefault(mutant, {})[gate] = finding.as_json()
            self._write()

    def forget(self, ids: set[str], gates: list[str]) -> None:
        """Drop these gates' findings about these mutants."""
        with self._lock:
            for name in ids & self._data["found"].keys():
                for gate in gates:
                    self._data["found"][name].pop(gate, None)
            self._write()

    def baseline(self, gate: str, mode: str) -> Figures | None:
        """The unmodified engine's figures, None before it has passed."""
        return self._data["baseline"].get(f"{gate} {mode}")

    def set_baseline(self, gate: str, mode: str, figures: Figures) -> None:
        """The unmodified engine has passed."""
        with self._lock:
            self._data["baseline"][f"{gate} {mode}"] = figures
            self._write()

    def _write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        part = self._path.with_suffix(".part")
        part.write_text(json.dumps(self._data, indent=1, sort_keys=True) + "\n")
        os.replace(part, self._path)
