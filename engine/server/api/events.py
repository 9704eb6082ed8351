"""Kubernetes Events, sent by a thread of its own: nothing ever waits for one, and what fails is logged."""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import dataclass

from engine.server.api import Api, ApiError
from engine.server.logs import get_log

CONTROLLER = "kube-proxy"
"""As kube-proxy reports itself, so that whoever looks for its events finds these."""
QUEUE_LIMIT = 256
_ATTEMPTS, _RETRY_SECONDS = 3, 5.0

_log = get_log(__name__)


@dataclass(frozen=True)
class Regarding:
    """The object an event is about."""

    kind: str
    name: str
    namespace: str = ""
    uid: str = ""


class Recorder:
    """Sends events as `node`; more than QUEUE_LIMIT that wait are dropped."""

    def __init__(self, api: Api, node: str) -> None:
        self._api = api
        self._node = node
        self._queue: queue.Queue[dict] = queue.Queue(QUEUE_LIMIT)
        threading.Thread(target=self._send, name="events", daemon=True).start()

    def node_event(self, kind: str, reason: str, action: str, note: str) -> None:
        """An event on this node's Node."""
        self.event(Regarding("Node", self._node, uid=self._node), kind, reason, action, note)

    def event(self, about: Regarding, kind: str, reason: str, action: str, note: str) -> None:
        """`kind` is Normal or Warning."""
        try:
            self._queue.put_nowait(self._manifest(about, kind, reason, action, note))
        except queue.Full:
            _log.warning("Event dropped", reason=reason, note=note)

    def _manifest(self, about: Regarding, kind: str, reason: str, action: str, note: str) -> dict:
        namespace = about.namespace or "default"
        now = time.time_ns()
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 10**9))
        regarding = {"kind": about.kind, "name": about.name, "namespace": about.namespace, "uid": about.uid}
        return {
            "apiVersion": "events.k8s.io/v1",
            "kind": "Event",
            "metadata": {"name": f"{about.name}.{now:x}", "namespace": namespace},
            "eventTime": f"{moment}.{now // 1000 % 10**6:06d}Z",
            "reportingController": CONTROLLER,
            "reportingInstance": f"{CONTROLLER}-{self._node}",
            "regarding": {key: value for key, value in regarding.items() if value},
            "type": kind,
            "reason": reason,
            "action": action,
            "note": note[:1024],
        }

    def _send(self) -> None:
        while True:
            event = self._queue.get()
            path = f"/apis/events.k8s.io/v1/namespaces/{event['metadata']['namespace']}/events"
            for attempt in range(1, _ATTEMPTS + 1):
                try:
                    self._api.post(path, event)
                    break
                except ApiError as error:
                    _log.warning("Event not sent", reason=event["reason"], attempt=attempt, err=error)
                    if 400 <= error.status < 500:
                        break
                    time.sleep(_RETRY_SECONDS)
