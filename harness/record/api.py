"""The cluster's API: access and authentication by the `kubernetes` client, lists and watches as raw bytes.

The client's typed objects would drop what they do not know and cost a hundred times the time.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import msgspec

from harness.record.ledger import Scope

PATHS = {
    "services": ("/api/v1", "services"),
    "endpointslices": ("/apis/discovery.k8s.io/v1", "endpointslices"),
    "nodes": ("/api/v1", "nodes"),
    "pods": ("/api/v1", "pods"),
}
CLUSTER_WIDE = frozenset({"nodes"})
PAGE = 500
CONNECT_SECONDS, LIST_SECONDS = 10.0, 60.0


class AccessError(RuntimeError):
    """There is no way in: no kubeconfig, an unknown context, a file that is missing."""


class ApiError(RuntimeError):
    """The server answered with a status other than 200."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Disconnected(RuntimeError):
    """No answer, or its end is missing. `reached`: somebody was there, and then the connection broke."""

    def __init__(self, message: str, reached: bool) -> None:
        super().__init__(message)
        self.reached = reached


class Page(msgspec.Struct, gc=False):
    """Part of a list: manifests, the list's version, and the token for the next part ("" at the end)."""

    items: list[msgspec.Raw] | None = None
    metadata: dict[str, Any] = {}


class WatchEvent(msgspec.Struct, gc=False):
    """One line of a watch."""

    type: str
    object: msgspec.Raw


class _Cidrs(msgspec.Struct):
    cidrs: list[str] = []


class _ServiceCidr(msgspec.Struct):
    spec: _Cidrs = msgspec.field(default_factory=_Cidrs)


class _ServiceCidrs(msgspec.Struct):
    items: list[_ServiceCidr] | None = None


_decode_page = msgspec.json.Decoder(Page).decode


@dataclass(frozen=True)
class Access:
    """How to reach the cluster: a kubeconfig (by default the user's), one of its contexts, or from inside a pod."""

    kubeconfig: str | None = None
    context: str | None = None
    in_cluster: bool = False


class Api:
    """List and watch, for several threads at once."""

    def __init__(self, access: Access, selectors: dict[str, str]) -> None:
        """`selectors`: label selectors by resource. AccessError when there is no way in."""
        from kubernetes import client, config
        from kubernetes.config import ConfigException
        from yaml import YAMLError

        configuration = client.Configuration()
        self.name = ""
        try:
            if access.in_cluster:
                config.load_incluster_config(client_configuration=configuration)
            else:
                self.name = _cluster_name(access)
                config.load_kube_config(access.kubeconfig, access.context, client_configuration=configuration)
        except (ConfigException, OSError) as error:
            raise AccessError(f"{error}; name a --kubeconfig, a --context of it, or --in-cluster in a pod") from None
        except (YAMLError, TypeError, KeyError, AttributeError, ValueError) as error:
            # The client takes any file for a kubeconfig until something is missing.
            where = access.kubeconfig or "the user's kubeconfig"
            raise AccessError(f"{where} is no kubeconfig: {type(error).__name__}: {error}") from None
        configuration.connection_pool_maxsize = 64
        configuration.retries = False
        configuration.socket_options = [
            (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
            (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 20),
            (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
            (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
        ]
        self._client = client.ApiClient(configuration)
        self._host = configuration.host
        self._selectors = selectors

    def version(self) -> str:
        """The server's gitVersion; ApiError or Disconnected."""
        return str(msgspec.json.decode(self._body("/version")).get("gitVersion", ""))

    def service_cidrs(self) -> list[str]:
        """What Service addresses are taken from; none where the API does not tell (before 1.33, or no right to)."""
        try:
            listed = msgspec.json.decode(self._body("/apis/networking.k8s.io/v1/servicecidrs"), type=_ServiceCidrs)
        except (ApiError, msgspec.DecodeError):
            return []
        return [cidr for item in listed.items or () for cidr in item.spec.cidrs]

    def page(self, scope: Scope, token: str = "", limit: int = PAGE) -> Page:
        """One page of a list; ApiError or Disconnected."""
        body = self._body(self._url(scope, limit=limit, **({"continue": token} if token else {})))
        try:
            return _decode_page(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Disconnected(f"the list is no JSON: {error}", reached=False) from None

    def watch(self, scope: Scope, version: str, seconds: int) -> Iterator[list[bytes]]:
        """Lines of a watch behind that resourceVersion, as they come. Ends when the server ends it.

        ApiError, or Disconnected when the connection breaks.
        """
        options = {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": version}
        # The server ends it after `seconds`; a server that does not is gone.
        url = self._url(scope, **options, timeoutSeconds=seconds)
        response = self._open(url, seconds + 30.0)
        try:
            yield from _lines(response)
        finally:
            response.close()
            response.release_conn()

    def _url(self, scope: Scope, **query: Any) -> str:
        prefix, name = PATHS[scope.resource]
        inside = f"/namespaces/{quote(scope.namespace)}" if scope.namespace else ""
        if selector := self._selectors.get(scope.resource):
            query["labelSelector"] = selector
        return f"{prefix}{inside}/{name}?{urlencode(query)}"

    def _body(self, path: str) -> bytes:
        response = self._open(path, LIST_SECONDS)
        try:
            return response.read()
        except Exception as error:
            raise _disconnected(error, reached=True) from None
        finally:
            response.release_conn()

    def _open(self, path: str, read_seconds: float):
        """The raw answer, its body unread."""
        headers = {"Accept": "application/json"}
        try:
            method, url, headers, body, post = self._client.param_serialize(
                "GET", path, header_params=headers, auth_settings=["BearerToken"]
            )
            timeout = (CONNECT_SECONDS, read_seconds)
            response = self._client.call_api(method, url, headers, body, post, _request_timeout=timeout).response
        except Exception as error:
            raise _disconnected(error, reached=not _refused(error)) from None
        if response.status != 200:
            raise ApiError(response.status, _message(response.read()))
        return response


def _cluster_name(access: Access) -> str:
    from kubernetes import config

    contexts, active = config.list_kube_config_contexts(access.kubeconfig)
    wanted = [c for c in contexts if c["name"] == access.context] if access.context else [active]
    return wanted[0]["context"]["cluster"] if wanted and wanted[0] else ""


def _lines(response) -> Iterator[list[bytes]]:
    rest = b""
    try:
        for chunk in response.stream(1 << 16):
            lines = (rest + chunk).split(b"\n")
            rest = lines.pop()
            if lines:
                yield lines
    except Exception as error:
        raise _disconnected(error, reached=True) from None
    if rest.strip():
        raise Disconnected("the watch ended in the middle of an event", reached=True)


def _refused(error: Exception) -> bool:
    """Whether there was no connection at all."""
    from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, NewConnectionError

    cause = error.reason if isinstance(error, MaxRetryError) else error
    return isinstance(cause, NewConnectionError | ConnectTimeoutError)


def _disconnected(error: Exception, reached: bool) -> Disconnected:
    """For urllib3's, ssl's and http.client's many errors; anything else is a mistake of ours."""
    import http.client

    import urllib3
    from kubernetes.client.exceptions import ApiException

    if isinstance(error, urllib3.exceptions.HTTPError | OSError | http.client.HTTPException | ApiException):
        return Disconnected(str(error) or type(error).__name__, reached)
    raise error


def _message(body: bytes) -> str:
    try:
        return str(msgspec.json.decode(body)["message"])
    except (msgspec.DecodeError, KeyError, TypeError):
        return body[:200].decode(errors="replace")
