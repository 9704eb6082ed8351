"""A real cluster as a run's stage: recorded, under load from this machine, restored on every exit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from chaos.experiment import Experiment
from chaos.load import LoadProcess, start_here
from chaos.model import PlanError
from chaos.perform import TargetError
from chaos.plan import Plan
from chaos.run_facts import ClusterFacts, ClusterLimits, StageFacts
from chaos.targets.kube.api import CallError, KubeApi
from chaos.targets.kube.prepare import prepare
from chaos.targets.kube.scene import MODE, Scene, node_view
from chaos.targets.kube.settings import KubeOptions, KubeSettings
from chaos.targets.kube.target import KubeTarget, put_all_back
from chaos.targets.kube.undo import HealError, HealFile, UndoHeader
from chaos.targets.kube.watch import ClusterLog
from harness.kube.resources import NODES
from harness.lab.answers import EngineUsage
from loadtests.spec import Spec

UNSEEN = "a node's kernel state cannot be read from outside the node"
RECORDING = "events.jsonl"


class KubeStage:
    """A `ChaosStage`; opens only with `options.really`."""

    def __init__(self, options: KubeOptions) -> None:
        self._options = options
        self._heal: HealFile | None = None
        self._log: ClusterLog | None = None
        self._report: Callable[[str], None] = lambda line: None
        self._closed = False

    def open(self, experiment: Experiment, seed: int, folder: Path, report: Callable[[str], None]) -> Plan:
        """Read and check, then begin; PlanError lists all obstacles."""
        self._report, self._experiment, self._seed = report, experiment, seed
        if not self._options.really:
            raise PlanError("a cluster is not changed without --really")
        try:
            self._api = KubeApi(self._options)
            prepared = prepare(experiment._replace(seed=seed), self._options, self._api)
        except CallError as error:
            raise TargetError(str(error)) from None
        for line in prepared.lines():
            report(line)
        if prepared.obstacles:
            raise PlanError("nothing was done: " + "; ".join(prepared.obstacles))
        self.settings, self.scene = prepared.settings, prepared.scene
        self._heal, self._log = self._open_files(folder)
        self.target = KubeTarget(self._api, self.settings, self.scene, self._heal, self._log)
        return prepared.plan

    def _open_files(self, folder: Path) -> tuple[HealFile, ClusterLog]:
        options = self._options
        kubeconfig = str(Path(options.kubeconfig).absolute()) if options.kubeconfig else None
        try:
            heal = HealFile(folder, UndoHeader(self._api.server, self._api.context, kubeconfig, options.in_cluster))
        except HealError as error:
            raise PlanError(str(error)) from None
        if heal.open:
            heal.close()
            raise PlanError(f"an earlier run in {folder} was not healed: `harness chaos heal {folder}` first")
        self._heal = heal  # to be closed even if the recording cannot begin
        path = folder / RECORDING
        path.unlink(missing_ok=True)  # a recording of an earlier run would be continued
        return heal, ClusterLog(path, options, self._api.context, self.scene.namespace)

    def start_load(self, folder: Path) -> list[LoadProcess]:
        """One process on this machine."""
        spec = load_spec(self._experiment, self._seed, self.scene, self.settings)
        return [start_here(spec, folder)]

    def health(self) -> dict[str, bool | None]:
        """Proxies and kernels are not observable."""
        found: dict[str, bool | None] = {"pods": None, "nodes": None, "engines": None, "kernels": None}
        try:
            now = msgspec.structs.replace(self.scene, pods=self.target.pods())
            nodes = {view.name: view for view in (node_view(n, "") for n in self._api.list(NODES.path()))}
        except CallError:
            return found
        ready = [node.name for node in self.scene.nodes if node.ready]
        # Without a Deployment the desired number is not known: use the initial number.
        enough = now.settled and len(now.pods) >= len(self.scene.pods)
        return found | {"pods": enough, "nodes": all(name in nodes and nodes[name].ready for name in ready)}

    def kernels(self) -> None:
        """Not observable from outside the nodes."""

    def restore(self) -> None:
        """Nothing to do: the faults of a cluster restore everything."""

    def usage(self) -> dict[str, EngineUsage]:
        """Not observable from outside the nodes."""
        return {}

    def facts(self) -> StageFacts:
        """The cluster's observations, and what is not observable."""
        assert self._log, "it is open"
        limits = ClusterLimits(self._options.namespaces, self._options.max_pods_percent, self._options.max_nodes)
        scene = self.scene
        return StageFacts(
            mode=MODE,
            lab=None,
            cluster=ClusterFacts(scene.server, scene.context, scene.namespace, scene.service_name, limits),
            began_monotonic_ns=self._log.began_ns,
            seconds=self._log.seconds,
            observations=[],
            unseen=UNSEEN,
            troubles=[f"the recording was interrupted: {self._log.trouble}"] if self._log.trouble else [],
        )

    def keep(self, folder: Path) -> None:
        """Nothing to do: the recording is already in the folder."""

    def close(self) -> list[str]:
        """Restore everything, then end the recording."""
        if self._closed:
            return []
        self._closed, troubles = True, []
        if self._heal:
            troubles = put_all_back(self._api, self._heal, self._report)
            if troubles:
                troubles.append(f"`harness chaos heal {self._heal.path.parent}` tries again")
            self._heal.close()
        if self._log:
            self._log.close()
        return troubles


def load_spec(experiment: Experiment, seed: int, scene: Scene, settings: KubeSettings) -> Spec:
    """The load's spec: flows to every node's NodePort, or to the Service's own address."""
    http = scene.service.ports.get("http")
    flows = settings.flows or (("nodeport-http",) if http and http.node_port else ("clusterip-http",))
    return Spec(
        name="here",
        where="here",
        flows=flows,
        arrivals_per_second=experiment.load.arrivals_per_second,
        shape=experiment.load.shape,
        timeout_seconds=experiment.load.timeout_seconds,
        seed=seed * 1000,
        nodes={node.name: node.address for node in scene.nodes if node.address and node.ready},
        services=[scene.service],
        named_answers=settings.named_answers,
        http_path=settings.http_path,
    )
