"""An experiment file: Chaos Toolkit's format, with our lab, load and objectives as its extension.

    extensions:
      - name: kube-proxy-harness
        seed: 1
        lab: {nodes: 3, pods: 12}                  harness.lab.topology.LabOptions
        load: {arrivals_per_second: 300, ...}      chaos.load.LoadOptions
        objectives: {error_budget_percent: 1.0}    chaos.objectives.Objectives
        kube: {namespace: shop, service: web}      chaos.targets.kube.settings.KubeSettings, for --target kube
        kafka: true                                the event log goes to a broker of the run's own as well

The faults of its method are the activities whose provider is `chaos.actions.inject`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from chaos.load import LoadOptions
from chaos.model import Cluster, Pod
from chaos.objectives import Objectives
from chaos.plan import Plan, Wanted, make_plan
from chaos.targets.kube.settings import KubeSettings
from harness.lab.topology import APP, LabOptions, nodes_of

EXTENSION = "kube-proxy-harness"
LIBRARY = Path(__file__).with_name("experiments")


class ExperimentError(ValueError):
    """`FILE: what is wrong` of an experiment that cannot be run."""


class _Extension(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    seed: int = 0
    lab: LabOptions = LabOptions()
    load: LoadOptions = LoadOptions()
    objectives: Objectives = Objectives()
    kube: KubeSettings = KubeSettings()
    kafka: bool = False


class Experiment(NamedTuple):
    """An experiment read: `raw` is what Chaos Toolkit runs, the rest what it asks of us."""

    path: str
    raw: dict[str, Any]
    seed: int
    lab: LabOptions
    load: LoadOptions
    objectives: Objectives
    kube: KubeSettings
    faults: tuple[Wanted, ...]
    kafka: bool = False

    @property
    def title(self) -> str:
        """Its title."""
        return self.raw["title"]


def find(name: str) -> Path:
    """The file of that name: a path, or an experiment of the library without its suffix."""
    path = Path(name)
    if not path.suffix and not path.exists():
        path = LIBRARY / f"{name}.yaml"
    if not path.exists():
        known = ", ".join(sorted(p.stem for p in LIBRARY.glob("*.yaml")))
        raise ExperimentError(f"{name}: no such file; the library has: {known}")
    return path


def load_experiment(path: Path) -> Experiment:
    """Read and check a file; ExperimentError says what is wrong with it."""
    from chaoslib.exceptions import ChaosException
    from chaoslib.experiment import ensure_experiment_is_valid
    from chaoslib.loader import parse_experiment_from_file

    try:
        raw = parse_experiment_from_file(str(path))
        ensure_experiment_is_valid(raw)
    except ChaosException as error:
        raise ExperimentError(f"{path}: {error}") from None
    except Exception as error:  # the YAML library's own errors, of many kinds
        raise ExperimentError(f"{path}: {error}") from None
    return read_experiment(raw, str(path))


def read_experiment(raw: dict[str, Any], path: str = "experiment") -> Experiment:
    """Our part of an experiment that Chaos Toolkit has taken."""
    found = [e for e in raw.get("extensions") or () if e.get("name") == EXTENSION]
    if len(found) > 1:
        raise ExperimentError(f"{path}: {EXTENSION} stands {len(found)} times under extensions")
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


def _wanted(activity: dict[str, Any]) -> Wanted:
    arguments = dict(activity["provider"].get("arguments") or {})
    if "fault" not in arguments:
        raise ValueError(f"activity {activity.get('name')!r}: the argument `fault` is needed")
    return Wanted(arguments["fault"], float(arguments.get("seconds", 5.0)), arguments.get("parameters") or {})


def predicted(options: LabOptions) -> Cluster:
    """The cluster that a new lab with these options is: what a plan is made for before there is one."""
    nodes = nodes_of(options)
    pods = [Pod(f"{APP}-{n + 1}", nodes[n % len(nodes)].name) for n in range(options.pods)]
    return Cluster(tuple(n.name for n in nodes), tuple(sorted(pods, key=lambda pod: pod.name)), options.mode)


def plan_of(experiment: Experiment, cluster: Cluster, seed: int) -> Plan:
    """The experiment's plan; PlanError when it cannot be made."""
    return make_plan(experiment.faults, cluster, seed)
