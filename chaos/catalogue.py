"""Lists the faults with their parameters, and the experiments of the library."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from chaos.experiment import LIBRARY, load_experiment
from chaos.faults import FAULTS


class FaultEntry(Struct, frozen=True):
    """A fault, and its parameters with their defaults."""

    name: str
    summary: str
    parameters: dict[str, Any]


class ExperimentEntry(Struct, frozen=True):
    """An experiment of the library, and its faults in order."""

    name: str
    title: str
    faults: list[str]


class Catalogue(Struct, frozen=True):
    """All that can be run by name."""

    faults: list[FaultEntry]
    experiments: list[ExperimentEntry]


def catalogue() -> Catalogue:
    """All faults and experiments, by name."""
    faults = [
        FaultEntry(name, " ".join((kind.__doc__ or "").split("\n\n")[0].split()), msgspec.to_builtins(kind()))
        for name, kind in sorted(FAULTS.items())
    ]
    return Catalogue(faults, [_experiment(path) for path in sorted(LIBRARY.glob("*.yaml"))])


def _experiment(path: Path) -> ExperimentEntry:
    experiment = load_experiment(path)
    return ExperimentEntry(path.stem, experiment.title, list(dict.fromkeys(want.fault for want in experiment.faults)))
