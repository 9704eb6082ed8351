"""Results to show: a real replay of the demo in memory, and what can become of it."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

DEMO = "recordings/demo.jsonl"


def replayed(folder: Path, *options: str) -> dict[str, Any]:
    """The JSON of a replay in memory."""
    path = folder / "result.json"
    command = [sys.executable, "-m", "harness", "replay", DEMO, "--kernel", "memory", "--json", str(path), *options]
    subprocess.run(command, check=True, capture_output=True)
    return json.loads(path.read_text())


def slower(result: dict[str, Any], mode: str, factor: float) -> dict[str, Any]:
    """The same in another mode, everything taking longer."""
    made = copy.deepcopy(result)
    made["engine"]["mode"] = mode
    for name in ("work", "convergence"):
        for each in made["change"]["histograms"][name]:
            each["above_seconds"] *= factor
            each["up_to_seconds"] *= factor
        for key in made["change"][f"{name}_seconds"]:
            made["change"][f"{name}_seconds"][key] *= factor
    for stretch in made["timeline"]["stretches"]:
        for key in ("work_seconds", "convergence_seconds"):
            stretch[key] *= factor
        stretch["queue_seconds"] = stretch["work_seconds"] / 3
    made["change"]["queued"] = 7
    return made


def failed(result: dict[str, Any], words: str) -> dict[str, Any]:
    """The same with a kernel that does not agree."""
    made = copy.deepcopy(result)
    made["verified"], made["differences"] = False, [f"after sync {n}: {words}" for n in range(60)]
    made["objectives"][0] |= {"verdict": False, "why": "60 differences"}
    return made


def compared(*results: dict[str, Any], missing: str = "") -> dict[str, Any]:
    """A comparison of them."""
    runs = [{"mode": r["engine"]["mode"], "exit_code": 0, "reason": "", "result": r} for r in results]
    if missing:
        runs.append({"mode": "ipvs", "exit_code": 1, "reason": missing, "result": None})
    by_mode = {run["mode"]: "forwarded" for run in runs}
    row = {"id": "CMP-06", "what": "policy Local", "by_mode": by_mode, "count": 3, "example": "10.0.0.1 tcp/80"}
    return {"source": DEMO, "modes": runs, "differences": [row]}
