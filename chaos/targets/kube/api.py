"""The cluster's API through the `kubernetes` client: raw manifests, and the few writes of a run."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode

import msgspec

from chaos.targets.kube.calls import Permission
from chaos.targets.kube.settings import KubeOptions
from harness.kube.access import Access, AccessError
from harness.kube.client import JSON, ApiError, Client, Disconnected
from harness.kube.resources import DEPLOYMENTS, NODES, PODS, Manifest

READ_SECONDS, EXEC_SECONDS = 30.0, 10.0
PAGE = 500
MERGE, STRATEGIC = "application/merge-patch+json", "application/strategic-merge-patch+json"


class CallError(RuntimeError):
    """The API refused, or did not answer (`status` 0); the message contains the request and the response."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class KubeApi:
    """One cluster; `context` is the kubeconfig's, "in-cluster" in a pod."""

    def __init__(self, options: KubeOptions) -> None:
        """CallError if the cluster cannot be accessed."""
        from kubernetes import client
        from kubernetes.stream import stream

        try:
            self._client = Client(Access(options.kubeconfig, options.context, options.in_cluster))
        except AccessError as error:
            raise CallError(str(error)) from None
        self.context, self.server = self._client.context, self._client.server
        # Imported here, as an import during a fault would take longer than the call.
        self._stream, self._core, self._refusal = stream, client.CoreV1Api(self._client.sdk), client.ApiException

    def list(self, path: str) -> list[Manifest]:
        """All objects of a collection."""
        items: list[Any] = []
        token = ""
        while True:
            query = {"limit": PAGE, **({"continue": token} if token else {})}
            page = self.request("GET", f"{path}?{urlencode(query)}")
            items += page.get("items") or []
            token = (page.get("metadata") or {}).get("continue") or ""
            if not token:
                return items

    def get(self, path: str) -> Manifest | None:
        """An object, or None."""
        with contextlib.suppress(NotFound):
            return self.request("GET", path)
        return None

    def patch(self, path: str, change: dict[str, Any], kind: str = MERGE) -> None:
        """Change an object."""
        self.request("PATCH", path, change, kind)

    def delete(self, path: str, grace_seconds: int | None, uid: str) -> None:
        """Delete exactly that pod (by UID), not another of the same name."""
        options: dict[str, Any] = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        self.request("DELETE", path, options)

    def evict(self, namespace: str, pod: str, uid: str, grace_seconds: int | None) -> None:
        """Request an eviction once; CallError 429 if a PodDisruptionBudget does not allow it now."""
        options: dict[str, Any] = {"preconditions": {"uid": uid}}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        body = {
            "apiVersion": "policy/v1",
            "kind": "Eviction",
            "metadata": {"name": pod, "namespace": namespace},
            "deleteOptions": options,
        }
        self.request("POST", f"{pod_path(namespace, pod)}/eviction", body)

    def allowed(self, right: Permission) -> bool | None:
        """Whether the client is authorized; None if the API does not report it."""
        resource, _, subresource = right.resource.partition("/")
        attributes = {"verb": right.verb, "group": right.group, "resource": resource, "namespace": right.namespace}
        if subresource:
            attributes["subresource"] = subresource
        kind = {"apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview"}
        try:
            answer = self.request(
                "POST",
                "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
                {**kind, "spec": {"resourceAttributes": attributes}},
            )
        except CallError as error:
            if error.status in (403, 404, 405):
                return None
            raise
        return bool((answer.get("status") or {}).get("allowed"))

    def exec(self, namespace: str, pod: str, container: str, command: Sequence[str]) -> None:
        """Run a command in a pod's container; CallError if it cannot be run or does not exit with 0."""
        what = f"`{' '.join(command)}` in {namespace}/{pod}"
        try:
            session = self._stream(
                self._core.connect_get_namespaced_pod_exec, pod, namespace,
                command=command, stdout=True, stderr=True, _preload_content=False,
                **({"container": container} if container else {}),
            )  # fmt: skip
            session.run_forever(timeout=EXEC_SECONDS)
            code = session.returncode  # before read_all, which discards it; None while the command runs
            words = session.read_all()
            session.close()
        except self._refusal as error:
            raise CallError(f"{what}: {error.reason}", error.status or 0) from None
        except Exception as error:  # the websocket library raises many kinds of errors
            raise CallError(f"{what}: {error}") from None
        if code != 0:
            end = f"did not end within {EXEC_SECONDS:g} s" if code is None else f"exit code {code}"
            raise CallError(f"{what}: {end}{': ' + words.strip()[-300:] if words.strip() else ''}")

    def request(self, method: str, path: str, body: object = None, kind: str = JSON) -> dict[str, Any]:
        """The answer's JSON; CallError, NotFound."""
        what = f"{method} {path.partition('?')[0]}"
        try:
            data = self._client.body(method, path, body, kind, READ_SECONDS)
        except ApiError as error:
            raise (NotFound if error.status == 404 else CallError)(f"{what}: {error}", error.status) from None
        except Disconnected as error:
            raise CallError(f"{self.server} does not answer: {error}") from None
        try:
            decoded: dict[str, Any] = msgspec.json.decode(data)
            return decoded
        except msgspec.DecodeError as error:
            raise CallError(f"{method} {path}: the answer is not valid JSON: {error}") from None


class NotFound(CallError):
    """404."""


def pod_path(namespace: str, pod: str = "") -> str:
    """The path of a pod, or of a namespace's pods."""
    return PODS.path(namespace, pod)


def scale_path(namespace: str, deployment: str) -> str:
    """The path of a Deployment's scale."""
    return f"{DEPLOYMENTS.path(namespace, deployment)}/scale"


def node_path(node: str) -> str:
    """The path of a node."""
    return NODES.path(name=node)
