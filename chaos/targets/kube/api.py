"""The cluster's API by the `kubernetes` client: manifests as they come, and the few writes that a run makes."""

from __future__ import annotations

import contextlib
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from chaos.targets.kube.calls import Right
from chaos.targets.kube.settings import KubeOptions

CONNECT_SECONDS, READ_SECONDS, EXEC_SECONDS = 10.0, 30.0, 10.0
PAGE = 500
MERGE, STRATEGIC = "application/merge-patch+json", "application/strategic-merge-patch+json"


class ApiError(RuntimeError):
    """The API refused, or did not answer (`status` 0); the message says what was asked and what it said."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class KubeApi:
    """One cluster; `context` is the kubeconfig's, "in-cluster" in a pod."""

    def __init__(self, options: KubeOptions) -> None:
        """ApiError when there is no way in."""
        from kubernetes import client, config
        from kubernetes.config import ConfigException
        from kubernetes.stream import stream

        configuration = client.Configuration()
        try:
            if options.in_cluster:
                self.context = "in-cluster"
                config.load_incluster_config(client_configuration=configuration)
            else:
                _, active = config.list_kube_config_contexts(options.kubeconfig)
                self.context = options.context or active["name"]
                config.load_kube_config(
                    options.kubeconfig, self.context, client_configuration=configuration, persist_config=False
                )
        except (ConfigException, OSError) as error:
            raise ApiError(f"{error}; name a --kubeconfig, a --context of it, or --in-cluster in a pod") from None
        configuration.retries = False
        self.server = configuration.host
        self._client = client.ApiClient(configuration)
        # Here, for an import in the middle of a fault would take longer than what it is about.
        self._stream, self._core, self._refusal = stream, client.CoreV1Api(self._client), client.ApiException

    def list(self, path: str) -> list[dict[str, Any]]:
        """All objects of a collection."""
        items, token = [], ""
        while True:
            query = {"limit": PAGE, **({"continue": token} if token else {})}
            page = self.request("GET", f"{path}?{urlencode(query)}")
            items += page.get("items") or []
            token = (page.get("metadata") or {}).get("continue") or ""
            if not token:
                return items

    def get(self, path: str) -> dict[str, Any] | None:
        """An object, None when there is none."""
        with contextlib.suppress(NotFound):
            return self.request("GET", path)
        return None

    def patch(self, path: str, change: dict[str, Any], kind: str = MERGE) -> None:
        """Change an object."""
        self.request("PATCH", path, change, kind)

    def delete(self, path: str, grace_seconds: int | None, uid: str) -> None:
        """Delete that very pod, no other one of its name."""
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        self.request("DELETE", path, options)

    def evict(self, namespace: str, pod: str, uid: str, grace_seconds: int | None) -> None:
        """Ask for it once; ApiError 429 when a PodDisruptionBudget does not allow it now."""
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

    def allowed(self, right: Right) -> bool | None:
        """Whether we have the right; None when the API does not tell."""
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
        except ApiError as error:
            if error.status in (403, 404, 405):
                return None
            raise
        return bool((answer.get("status") or {}).get("allowed"))

    def exec(self, namespace: str, pod: str, container: str, command: list[str]) -> None:
        """Run a command in a pod's container; ApiError when it cannot be, or does not exit with 0."""
        what = f"`{' '.join(command)}` in {namespace}/{pod}"
        try:
            session = self._stream(
                self._core.connect_get_namespaced_pod_exec, pod, namespace,
                command=command, stdout=True, stderr=True, _preload_content=False,
                **({"container": container} if container else {}),
            )  # fmt: skip
            session.run_forever(timeout=EXEC_SECONDS)
            code = session.returncode  # before the rest is read, which forgets it; None while it runs
            words = session.read_all()
            session.close()
        except self._refusal as error:
            raise ApiError(f"{what}: {error.reason}", error.status or 0) from None
        except Exception as error:  # the websocket library's own, of many kinds
            raise ApiError(f"{what}: {error}") from None
        if code != 0:
            end = f"did not end within {EXEC_SECONDS:g} s" if code is None else f"exit code {code}"
            raise ApiError(f"{what}: {end}{': ' + words.strip()[-300:] if words.strip() else ''}")

    def request(self, method: str, path: str, body: Any = None, kind: str = "application/json") -> dict[str, Any]:
        """The answer's JSON; ApiError, NotFound."""
        headers = {"Accept": "application/json"} | ({"Content-Type": kind} if body is not None else {})
        try:
            words = self._client.param_serialize(
                method, path, header_params=headers, body=body, auth_settings=["BearerToken"]
            )
            answer = self._client.call_api(*words, _request_timeout=(CONNECT_SECONDS, READ_SECONDS)).response
            data = answer.read()
        except Exception as error:  # urllib3's own, of many kinds
            raise ApiError(f"{self.server} does not answer: {error}") from None
        if answer.status >= 300:
            what = f"{method} {path.partition('?')[0]}: {answer.status}: {_message(data)}"
            raise (NotFound if answer.status == 404 else ApiError)(what, answer.status)
        try:
            return msgspec.json.decode(data)
        except msgspec.DecodeError as error:
            raise ApiError(f"{method} {path}: the answer is no JSON: {error}") from None


class NotFound(ApiError):
    """404."""


def pod_path(namespace: str, pod: str = "") -> str:
    """Of a pod, or of a namespace's pods."""
    return f"/api/v1/namespaces/{quote(namespace)}/pods" + (f"/{quote(pod)}" if pod else "")


def scale_path(namespace: str, deployment: str) -> str:
    """Of a Deployment's scale."""
    return f"/apis/apps/v1/namespaces/{quote(namespace)}/deployments/{quote(deployment)}/scale"


def node_path(node: str) -> str:
    """Of a node."""
    return f"/api/v1/nodes/{quote(node)}"


def _message(data: bytes) -> str:
    try:
        return str(msgspec.json.decode(data)["message"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return data[:300].decode(errors="replace")
