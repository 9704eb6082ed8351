"""The run's recording: the cluster's watches through the recorder of `harness record`, with FAULT events."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from pathlib import Path

from chaos.perform import TargetError
from chaos.targets.kube.settings import KubeOptions
from harness.kube.access import Access, AccessError
from harness.kube.client import ApiError, Disconnected
from harness.kube.resources import PODS, PROXIED
from harness.log import RecordingError
from harness.record.recorder import RecorderStopped
from harness.record.session import RecordOptions, open_session

START_SECONDS, MARK_SECONDS = 60.0, 10.0
RESOURCES = (*PROXIED, PODS.resource)


class ClusterLog:
    """A recorder in a thread.  `trouble` states why it ended before it was stopped, "" if it did not."""

    def __init__(self, path: Path, options: KubeOptions, context: str, namespace: str) -> None:
        """Begin, and wait until the initial list is written; TargetError."""
        access = Access(options.kubeconfig, None if options.in_cluster else context, options.in_cluster)
        wanted = RecordOptions(out=path, access=access, resources=RESOURCES, namespaces=(namespace,), flush_seconds=0.2)
        try:
            self._session = open_session(wanted)
        except (RecordingError, RecorderStopped, AccessError, ApiError, Disconnected) as error:
            raise TargetError(f"the run cannot be recorded: {error}") from None
        self.trouble = ""
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)
        self._thread.start()
        self._await_begun()

    def _await_begun(self) -> None:
        left = START_SECONDS
        while not self._session.recorder.go.wait(0.1):
            left -= 0.1
            if self._ended.is_set() or left < 0:
                self.close()
                raise TargetError(f"the run cannot be recorded: {self.trouble or 'the initial list is incomplete'}")

    def _run(self) -> None:
        try:
            self._session.recorder.run(lambda recorder: None)
        except (RecorderStopped, RecordingError, OSError) as error:
            self.trouble = str(error)
        finally:
            self._ended.set()

    @property
    def began_ns(self) -> int:
        """CLOCK_MONOTONIC of the recording's time 0."""
        return self._session.recorder.clock.origin

    @property
    def seconds(self) -> float:
        """The present time on the recording's clock."""
        return self._session.recorder.clock.now() / 1e9

    def fault(self, what: Mapping[str, object]) -> float:
        """Write a FAULT event; returns its time.  After an error only the time, as the run must heal in any case."""
        if self._ended.is_set():
            return self.seconds
        t = self._session.recorder.mark("FAULT", "nodes" if what.get("nodes") else "pods", what, MARK_SECONDS)
        return self.seconds if t is None else t / 1e9

    def close(self) -> None:
        """End the recording, with everything on disk."""
        self._session.recorder.stop()
        self._thread.join(MARK_SECONDS)
        try:
            self._session.close(patient=False)
        except OSError as error:
            self.trouble = self.trouble or str(error)
