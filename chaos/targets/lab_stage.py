"""A lab as a run's stage: started for the run, or already running."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from chaos.experiment import Experiment, plan_of
from chaos.faults import FAULTS
from chaos.kafka_log import KafkaLog
from chaos.load import LoadProcess, start_load
from chaos.model import PlanError
from chaos.plan import Plan
from chaos.run_facts import Differences, StageFacts
from chaos.targets.lab import LabTarget
from harness.lab.answers import EngineUsage, Status
from harness.lab.control import LabClient
from harness.lab.control_plane import spares
from harness.lab.launch import RECORDING, lab
from harness.log.kafka.broker import BrokerError
from harness.places import vm
from harness.temporary import temporary_folder
from harness.wording import plural


def attached(experiment: Experiment, folder: Path, mode: str | None = None) -> Experiment:
    """The experiment adapted to the size and mode of the lab that runs in `folder`.

    LabError if there is none; PlanError if a different `mode` was requested.
    """
    options = LabClient(folder).facts.options
    if mode and mode != options.mode:
        raise PlanError(
            f"mode {mode} is requested, but the lab in {folder} runs {options.mode}; request that mode or none, or"
            f" start a lab with `harness lab up --mode {mode}`"
        )
    return experiment._replace(lab=options)


class LabStage:
    """A `ChaosStage`; `attach` is the folder of a running lab, which is left running.

    With `web_ui` each load serves locust's page in its namespace.
    """

    def __init__(self, attach: Path | None = None, web_ui: bool = False) -> None:
        self._attach, self._web_ui, self._stack = attach, web_ui, ExitStack()
        self._kafka: KafkaLog | None = None

    def open(self, experiment: Experiment, seed: int, folder: Path, report: Callable[[str], None]) -> Plan:
        """Start the lab, or attach to the running one."""
        if self._attach:
            experiment = attached(experiment, self._attach)
        self._experiment, self._seed, self._report = experiment, seed, report
        if self._attach:
            self.client = LabClient(self._attach)
            report(
                f"lab: {plural(experiment.lab.nodes, 'node')}, {plural(experiment.lab.pods, 'pod')},"
                f" mode {experiment.lab.mode}, as it runs"
            )
        else:
            report(f"lab: {plural(experiment.lab.nodes, 'node')}, {plural(experiment.lab.pods, 'pod')}")
            place = self._stack.enter_context(lab_folder(folder))
            self.client = self._stack.enter_context(lab(experiment.lab, place, lambda line: report(f"  {line}")))
        self.target = LabTarget(self.client, self._start_kafka(folder) if experiment.kafka else None)
        return plan_of(experiment, self.target.cluster(), seed)

    def _start_kafka(self, folder: Path) -> KafkaLog | None:
        """None if no broker is available and no fault requires one."""
        self._report("kafka: a broker for the event log")
        kafka = KafkaLog(folder / "kafka", self.client.folder / RECORDING)
        self._stack.callback(kafka.close)
        try:
            kafka.start()
        except BrokerError as error:
            if any(FAULTS[want.fault].NEEDS_BROKER and not want.optional for want in self._experiment.faults):
                raise
            self._report(f"kafka: NO BROKER: {error}")
            return None
        self._kafka = kafka
        return kafka

    def start_load(self, folder: Path) -> list[LoadProcess]:
        """One process per sender that has flows."""
        started = start_load(self.client, self._experiment.load, folder, self._seed, self._web_ui)
        if self._web_ui:
            self._report(f"locust's page: harness lab forward --lab {self.client.folder} client 8089")
        return started

    def health(self) -> dict[str, bool | None]:
        """Desired number of pods ready, engines healthy and following the API, rules written, kernels up to date.

        Rules are checked separately, as an engine is healthy before it has written its first rules.
        """
        status = self.client.status()
        ready = [pod for pod in status.pods if pod.ready and not pod.terminating]
        return {
            "pods": len(ready) == len(status.pods) == status.replicas,
            "nodes": all(node.ready for node in status.nodes),
            "engines": all(node.engine_healthy and node.engine_synced for node in status.nodes) and _followed(status),
            "kernels": self.client.open_questions() == 0,
        }

    def kernels(self) -> Differences | None:
        """By kernel readback against the oracle; None for another proxy, whose rules the readback cannot parse."""
        if self._experiment.lab.external:
            return None
        return {node: judged.differences for node, judged in self.client.kernels_judge().items()}

    def restore(self) -> None:
        """Restores the unused Services."""
        self.client.perform("spares.set", services=spares.USUAL, slices=spares.USUAL)

    def usage(self) -> dict[str, EngineUsage]:
        """By /proc."""
        return self.client.engine_usage()

    def facts(self) -> StageFacts:
        """The lab's observations at the end."""
        status = self.client.status()
        return StageFacts(
            mode=status.mode,
            lab=self._experiment.lab,
            began_monotonic_ns=status.began_monotonic_ns,
            seconds=status.seconds,
            observations=self.client.observations(),
            transactions=self.client.transactions(),
            rewrites=self.client.rewrites(),
            kafka=self._kafka.finish() if self._kafka else None,
        )

    def keep(self, folder: Path) -> None:
        """Copies the lab's event log."""
        shutil.copyfile(self.client.folder / RECORDING, folder / RECORDING)

    def close(self) -> list[str]:
        """Stops the lab with everything in it."""
        self._stack.close()
        return []


@contextmanager
def lab_folder(folder: Path) -> Iterator[Path]:
    """In the run's folder; in a virtual machine, whose shared folders cannot hold sockets, copied there at the end.

    QEMU creates a socket there, cannot open it to set its owner and mode, removes it, and reports ENXIO.
    """
    if not vm.inside():
        yield folder / "lab"
        return
    with temporary_folder("lab", _unshared(folder.parent)) as own:
        place = own / "lab"
        try:
            yield place
        finally:
            if place.exists():
                shutil.copytree(place, folder / "lab", ignore=_sockets)


def _unshared(shared: Path) -> Path:
    """A folder of the machine's own; `shared`, the host's, may be the one for temporary files."""
    return next(place for place in map(Path, ("/dev/shm", "/var/tmp")) if not place.is_relative_to(shared))


def _sockets(folder: str, names: list[str]) -> set[str]:
    return {name for name in names if (Path(folder) / name).is_socket()}


def _followed(status: Status) -> bool:
    """Whether every engine's watches are open again: an engine that waits to retry is healthy, but receives nothing."""
    return status.watches >= status.watches_wanted
