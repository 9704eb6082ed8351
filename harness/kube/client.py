"""The client for a cluster's API: the `kubernetes` package handles access and authentication; bodies are raw bytes.

That package's typed objects would drop unknown fields and take a hundred times as long.
"""

from __future__ import annotations

import socket
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from harness.failure import Failure
from harness.kube.access import Access, access_error, access_errors

if TYPE_CHECKING:
    import urllib3  # its parent package is imported late
    from kubernetes.client import Configuration

CONNECT_SECONDS, READ_SECONDS = 10.0, 60.0
JSON = "application/json"


class ApiError(Failure, RuntimeError):
    """The server answered with an error status."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


class Disconnected(Failure, RuntimeError):
    """No answer, or an incomplete one. `reached`: the connection was established and then broke."""

    def __init__(self, message: str, reached: bool) -> None:
        super().__init__(message)
        self.reached = reached


class Client:
    """Requests to one cluster, for several threads at once.

    `server` is its URL, `context` the kubeconfig's ("in-cluster" in a pod), `cluster` the name of its cluster there;
    `sdk` is the ApiClient of the `kubernetes` package, for anything else.
    """

    def __init__(self, access: Access) -> None:
        """Raises AccessError if the cluster cannot be accessed."""
        from kubernetes import client

        from engine.server.api import token

        configuration = client.Configuration()
        try:
            self.context, self.cluster = _configure(configuration, access)
        except access_errors() as error:
            raise access_error(error, access) from None
        configuration.connection_pool_maxsize = 64
        configuration.retries = False
        configuration.socket_options = [
            (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
            (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
            (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 20),
            (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
            (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 4),
        ]
        self.sdk = client.ApiClient(configuration)
        self.server = configuration.host
        self._note_refusal = partial(token.note_refusal, configuration)

    def body(
        self, method: str, path: str, content: object = None, content_type: str = JSON, seconds: float = READ_SECONDS
    ) -> bytes:
        """The whole answer; ApiError or Disconnected."""
        response = self.open(method, path, content, content_type, seconds)
        try:
            return response.read()
        except Exception as error:  # many kinds, from urllib3
            raise disconnected(error, reached=True) from None
        finally:
            response.release_conn()

    def open(
        self, method: str, path: str, content: object = None, content_type: str = JSON, seconds: float = READ_SECONDS
    ) -> urllib3.BaseHTTPResponse:
        """The raw answer, its body unread; ApiError or Disconnected."""
        headers = {"Accept": JSON} | ({"Content-Type": content_type} if content is not None else {})
        try:
            words = self.sdk.param_serialize(
                method, path, header_params=headers, body=content, auth_settings=["BearerToken"]
            )
            answer = self.sdk.call_api(*words, _request_timeout=(CONNECT_SECONDS, seconds))
            response: urllib3.BaseHTTPResponse = answer.response
        except Exception as error:  # many kinds, from urllib3
            raise disconnected(error, reached=not _refused(error)) from None
        if response.status == 401:
            self._note_refusal()
        if not 200 <= response.status < 300:
            raise ApiError(response.status, _message(response.read()))
        return response


def _configure(configuration: Configuration, access: Access) -> tuple[str, str]:
    """Fill in the configuration; returns the names of context and cluster."""
    from kubernetes import config

    from engine.server.api import token

    if access.in_cluster:
        config.load_incluster_config(client_configuration=configuration)
        token.follow_pod(configuration)
        return "in-cluster", ""
    contexts, active = config.list_kube_config_contexts(access.kubeconfig)
    named = next((each for each in contexts if each["name"] == access.context), None) if access.context else active
    config.load_kube_config(access.kubeconfig, access.context, client_configuration=configuration)
    token.follow(configuration, access.kubeconfig, access.context)
    return (named["name"], named["context"]["cluster"]) if named else ("", "")


def _refused(error: Exception) -> bool:
    """Whether there was no connection at all."""
    from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, NewConnectionError

    cause = error.reason if isinstance(error, MaxRetryError) else error
    return isinstance(cause, NewConnectionError | ConnectTimeoutError)


def disconnected(error: Exception, reached: bool) -> Disconnected:
    """Disconnected for errors of urllib3, ssl and http.client; anything else is a bug."""
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
        return body[:300].decode(errors="replace")
