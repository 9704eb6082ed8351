"""An experiment file: Chaos Toolkit's format, with our lab, load and objectives as its extension.

    extensions:
      - name: kube-proxy-harness
        seed: 1
        lab: {nodes: 3, pods: 12}                  harness.lab.topology.LabOptions
        load: {arrivals_per_second: 300, ...}      chaos.load_options.LoadOptions
        objectives: {error_budget_percent: 1.0}    chaos.objectives.Objectives
        kube: {namespace: shop, service: web}      chaos.targets.kube.settings.KubeSettings, for --target kube
        kafka: true                                also write the event log to the run's own broker

The faults of its method are the activities whose provider is `chaos.actions.inject`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from chaos.load_options import LoadOptions
from chaos.model import Cluster, Pod
from chaos.objectives import Objectives
from chaos.plan import Plan, RequestedFault, make_plan
from chaos.targets.kube.settings import KubeSettings
from harness.lab.topology import APP, LabOptions, nodes_of

EXTENSION, CONTROL = "kube-proxy-harness", "chaos.control"
LIBRARY = Path(__file__).with_name("experiments")


class ExperimentError(ValueError):
    """An experiment that cannot be run; the message is `FILE: reason`."""


class _Extension(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    seed: int = 0
    lab: LabOptions = LabOptions()
    load: LoadOptions = LoadOptions()
    objectives: Objectives = Objectives()
    kube: KubeSettings = KubeSettings()
    kafka: bool = False


class Experiment(NamedTuple):
    """A decoded experiment: `raw` is what Chaos Toolkit runs, the rest is our extension."""

    path: str
    raw: dict[str, Any]
    seed: int
    lab: LabOptions
    load: LoadOptions
    objectives: Objectives
    kube: KubeSettings
    faults: tuple[RequestedFault, ...]
    kafka: bool = False

    @property
    def title(self) -> str:
        """Its title."""
        return str(self.raw["title"])


def find(name: str) -> Path:
    """The file of that name: a path, or the name of an experiment in the library."""
    path = Path(name)
    if not path.suffix and not path.exists():
        path = LIBRARY / f"{name}.yaml"
    if not path.exists():
        known = ", ".join(sorted(p.stem for p in LIBRARY.glob("*.yaml")))
        raise ExperimentError(f"{name}: no such file; the library has: {known}")
    return path


def load_experiment(path: Path) -> Experiment:
    """Read and check a file; ExperimentError states the defect."""
    from chaoslib.exceptions import ChaosException
    from chaoslib.experiment import ensure_experiment_is_valid
    from chaoslib.loader import parse_experiment_from_file

    try:
        raw = parse_experiment_from_file(str(path))
        ensure_experiment_is_valid(raw)
    except ChaosException as error:
        raise ExperimentError(f"{path}: {error}") from None
    except Exception as error:  # the YAML library raises many kinds of errors
        raise ExperimentError(f"{path}: {error}") from None
    experiment = read_experiment(raw, str(path))
    missing = [*_no_control(raw), *([] if experiment.faults else ["no activity of its method injects a fault"])]
    if missing:
        raise ExperimentError(f"{path}: {' and '.join(missing)}: see `Experiments` in docs/chaos.md")
    return experiment


def _no_control(raw: dict[str, Any]) -> list[str]:
    """The error if no control begins our session: Chaos Toolkit would run every action without it."""
    modules = [(control.get("provider") or {}).get("module") for control in raw.get("controls") or ()]
    return [] if CONTROL in modules else [f"the control {CONTROL} is missing"]


def read_experiment(raw: dict[str, Any], path: str = "experiment") -> Experiment:
    """Our part of an experiment that Chaos Toolkit has accepted."""
    found = [e for e in raw.get("extensions") or () if e.get("name") == EXTENSION]
    if len(found) > 1:
        raise ExperimentError(f"{path}: {EXTENSION} occurs {len(found)} times under extensions")
    try:
        extension = msgspec.convert(found[0] if found else {"name": EXTENSION}, _Extension)
        faults = tuple(_wanted(activity) for activity in raw["method"] if _injects(activity))
    except (msgspec.ValidationError, ValueError) as error:
        raise ExperimentError(f"{path}: {error}") from None
    return Experiment(
        path, raw, extension.seed, extension.lab, extension.load, extension.objectives, extension.kube, faults,
        extension.kafka,
    )  # fmt: skip


def _injects(activity: dict[str, Any]) -> bool:
    provider = activity.get("provider") or {}
    return provider.get("module") == "chaos.actions" and provider.get("func") == "inject"


def _wanted(activity: dict[str, Any]) -> RequestedFault:
    arguments = dict(activity["provider"].get("arguments") or {})
    if "fault" not in arguments:
        raise ValueError(f"activity {activity.get('name')!r}: the argument `fault` is missing")
    return RequestedFault(
        arguments["fault"],
        float(arguments.get("seconds", 5.0)),
        arguments.get("parameters") or {},
        bool(arguments.get("optional")),
    )


def predicted(options: LabOptions) -> Cluster:
    """The cluster that a new lab with these options will have, for planning before it exists."""
    nodes = nodes_of(options)
    pods = [Pod(f"{APP}-{n + 1}", nodes[n % len(nodes)].name) for n in range(options.pods)]
    return Cluster(tuple(n.name for n in nodes), tuple(sorted(pods, key=lambda pod: pod.name)), options.mode)


def plan_of(experiment: Experiment, cluster: Cluster, seed: int) -> Plan:
    """The experiment's plan; PlanError if there is none."""
    return make_plan(experiment.faults, cluster, seed)
