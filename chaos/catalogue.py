"""Lists the faults with their parameters, and the experiments of the library."""

from __future__ import annotations

from typing import Any

import msgspec

from chaos.experiment import LIBRARY, load_experiment
from chaos.faults import FAULTS


def faults() -> list[dict[str, Any]]:
    """Name, summary and parameters (with their defaults) of every fault."""
    return [
        {
            "name": name,
            "summary": " ".join((kind.__doc__ or "").split("\n\n")[0].split()),
            "parameters": msgspec.to_builtins(kind()),
        }
        for name, kind in sorted(FAULTS.items())
    ]


def experiments() -> list[dict[str, Any]]:
    """Name, title and faults of every experiment of the library."""
    found = [load_experiment(path) for path in sorted(LIBRARY.glob("*.yaml"))]
    return [
        {
            "name": path.stem,
            "title": experiment.title,
            "faults": list(dict.fromkeys(want.fault for want in experiment.faults)),
        }
        for path, experiment in zip(sorted(LIBRARY.glob("*.yaml")), found, strict=True)
    ]
