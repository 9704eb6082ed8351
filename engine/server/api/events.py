"""Kubernetes Events, sent asynchronously by a separate thread; failures are logged."""

from __future__ import annotations

import dataclasses
import queue
import threading
import time
from dataclasses import dataclass

from engine.config import NEWEST
from engine.server.api.client import ApiClient, ApiError, JsonObject
from engine.server.runtime.logs import get_log

CONTROLLER = "kube-proxy"
"""kube-proxy's controller name, so that filters for its events also match these."""
QUEUE_LIMIT = 256
BY_NAME_SINCE = (1, 35)
"""Since this version events refer to the Node by kind, name and apiVersion; before, also with its name as uid."""
_ATTEMPTS, _RETRY_SECONDS = 3, 5.0

_log = get_log(__name__)


@dataclass(frozen=True)
class Regarding:
    """The object an event is about."""

    kind: str
    name: str
    namespace: str = ""
    uid: str = ""
    apiVersion: str = "v1"


class EventSender:
    """Sends events as `node`; if QUEUE_LIMIT events are queued, further ones are dropped."""

    def __init__(self, api: ApiClient, node: str, version: tuple[int, int] = NEWEST) -> None:
        self._api = api
        self._node = node
        self._uid = "" if version >= BY_NAME_SINCE else node
        self._queue: queue.Queue[JsonObject] = queue.Queue(QUEUE_LIMIT)
        threading.Thread(target=self._send, name="events", daemon=True).start()

    def node_event(self, kind: str, reason: str, action: str, note: str) -> None:
        """An event about this node's Node object."""
        self.event(Regarding("Node", self._node, uid=self._uid), kind, reason, action, note)

    def event(self, about: Regarding, kind: str, reason: str, action: str, note: str) -> None:
        """`kind` is Normal or Warning."""
        try:
            self._queue.put_nowait(self._manifest(about, kind, reason, action, note))
        except queue.Full:
            _log.warning("Event dropped", reason=reason, note=note)

    def flush(self, seconds: float) -> None:
        """Wait until all queued events have been sent or given up, at most that long."""
        with self._queue.all_tasks_done:
            self._queue.all_tasks_done.wait_for(lambda: not self._queue.unfinished_tasks, seconds)

    def _manifest(self, about: Regarding, kind: str, reason: str, action: str, note: str) -> JsonObject:
        namespace = about.namespace or "default"
        now = time.time_ns()
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now // 10**9))
        regarding = dataclasses.asdict(about)
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
            try:
                self._try(event)
            except Exception as error:  # must not affect later events
                _log.error(error, "Event not sent", reason=event["reason"])
            finally:
                self._queue.task_done()

    def _try(self, event: JsonObject) -> None:
        path = f"/apis/events.k8s.io/v1/namespaces/{event['metadata']['namespace']}/events"
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return self._api.post(path, event)
            except ApiError as error:
                _log.warning("Event not sent", reason=event["reason"], attempt=attempt, err=error)
                if 400 <= error.status < 500:
                    return None
                time.sleep(_RETRY_SECONDS)
        return None
