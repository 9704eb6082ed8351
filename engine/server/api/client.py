"""A minimal Kubernetes API client: raw bytes of lists and watches, and a few writes.

Server and credentials come from the `kubernetes` client's configuration (kubeconfig, in-cluster, renewed
tokens); its models are not used, since the engine decodes manifests itself.
"""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import urllib3
from yaml import YAMLError

from engine.server.api import token
from engine.server.api.access import ConfigException, Configuration, load_incluster_config, load_kube_config
from engine.server.runtime.logs import get_log

CONNECT_SECONDS = 10.0
READ_SECONDS = 60.0
_KEEPALIVE = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
]
"""A peer that disappeared silently is detected within a minute."""

JsonObject = dict[str, Any]

_log = get_log(__name__)


class ApiError(RuntimeError):
    """A request failed; `status` is the HTTP code, 0 without a response.

    It is 200 if the response had begun and was interrupted.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


def load_configuration(kubeconfig: str, master: str) -> Configuration:
    """Server and credentials: from the kubeconfig, `master` or in-cluster; `master` overrides the file (CFG-21).

    ApiError if the file does not exist or is invalid, or this is not a pod.
    """
    configuration = Configuration()
    try:
        if kubeconfig:
            load_kube_config(kubeconfig, client_configuration=configuration, persist_config=False)
            token.follow(configuration, kubeconfig)
        elif not master:
            _log.info("Neither kubeconfig file nor master URL was specified, falling back to in-cluster config")
            load_incluster_config(configuration)
            token.follow_pod(configuration)
    except (ConfigException, OSError) as error:
        raise ApiError(f"{kubeconfig or 'in-cluster config'}: {_line(error)}") from None
    except (YAMLError, TypeError, KeyError, AttributeError, ValueError) as error:
        # The client accepts any file as a kubeconfig until something is missing.
        raise ApiError(f"{kubeconfig}: not a kubeconfig: {_line(error)}") from None
    if master:
        configuration.host = master if "://" in master else f"http://{master}"
    configuration.host = configuration.host.rstrip("/")
    return configuration


def _line(error: Exception) -> str:
    return " ".join(str(error).split())


class ApiClient:
    """One API server; thread-safe. All failures raise ApiError. `throttle` is called before each request."""

    def __init__(self, configuration: Configuration, throttle: Callable[[], None] = lambda: None) -> None:
        self._configuration = configuration
        self.host = configuration.host
        """The server's URL; kept, since renewing a token resets that of the configuration to the kubeconfig's."""
        self._throttle = throttle
        self._pool = _pool(configuration)
        self.observe: Callable[[str, str, float], None] = lambda method, code, seconds: None
        """Called for each response with method, HTTP code or "<error>", and seconds until it began."""

    def get(self, path: str, query: dict[str, str] | None = None) -> bytes:
        """The body of a 200 response."""
        with self._answer("GET", path, query, READ_SECONDS) as response:
            return response.data

    def post(self, path: str, value: JsonObject) -> None:
        """Create an object."""
        with self._answer("POST", path, None, READ_SECONDS, json.dumps(value).encode()) as response:
            response.drain_conn()

    def lines(self, path: str, query: dict[str, str], silence_seconds: float) -> Iterator[bytes]:
        """The complete lines of a watch as they arrive; ends when the server ends it.

        A truncated line is dropped.  ApiError if nothing arrives for `silence_seconds`.
        """
        with self._answer("GET", path, query, silence_seconds) as response:
            pending = b""
            for chunk in _chunks(response):
                *complete, pending = (pending + chunk).split(b"\n")
                yield from filter(None, complete)

    @contextlib.contextmanager
    def _answer(
        self, method: str, path: str, query: dict[str, str] | None, read_seconds: float, body: bytes | None = None
    ) -> Iterator[urllib3.BaseHTTPResponse]:
        self._throttle()
        response, started, url = None, time.monotonic(), f"{self.host}{path}"
        try:
            response = self._pool.request(
                method,
                url,
                fields=query,
                **({"body": body} if body is not None else {}),
                headers=self._headers(body is not None),
                timeout=urllib3.Timeout(connect=CONNECT_SECONDS, read=read_seconds),
                preload_content=False,
                retries=False,
            )
            self._answered(method, url, query, str(response.status), time.monotonic() - started)
            if response.status == 401:
                token.note_refusal(self._configuration)
            if response.status >= 300:
                raise ApiError(f"{method} {path}: {response.status} {_reason(response.data)}", response.status)
            yield response
        except (urllib3.exceptions.HTTPError, OSError, ConfigException) as error:
            if response is None:
                self._answered(method, url, query, "<error>", time.monotonic() - started)
            raise ApiError(f"{method} {url}: {error}", response.status if response else 0) from error
        finally:
            if response is not None:
                response.close()  # a connection read to its end is back in the pool already

    def _headers(self, body: bool) -> dict[str, str]:
        """The headers; a plugin may be called for credentials each time, which may fail: ConfigException."""
        headers = {"Accept": "application/json", "User-Agent": "proxy-engine"}
        if body:
            headers["Content-Type"] = "application/json"
        if bearer := self._configuration.auth_settings().get("BearerToken"):
            headers[bearer["key"]] = bearer["value"] or ""
        return headers

    def _answered(self, method: str, url: str, query: dict[str, str] | None, code: str, seconds: float) -> None:
        self.observe(method, code, seconds)
        _log.info(
            "Response", v=6, verb=method, url=url, query=query or {}, status=code, milliseconds=int(seconds * 1e3)
        )


def _chunks(response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    if response.chunked:
        yield from response.read_chunked()
        return
    while chunk := response.read1(1 << 16):
        yield chunk


def _reason(body: bytes) -> str:
    """The message of a Status object, else the start of the body."""
    try:
        return str(json.loads(body)["message"])
    except (ValueError, KeyError, TypeError):
        return body[:200].decode(errors="replace")


def _pool(configuration: Configuration) -> urllib3.PoolManager:
    options: dict[str, Any] = {
        "maxsize": 8,
        "socket_options": urllib3.connection.HTTPConnection.default_socket_options + _KEEPALIVE,
        "cert_reqs": "CERT_REQUIRED" if configuration.verify_ssl else "CERT_NONE",
        "ca_certs": configuration.ssl_ca_cert,
        "ca_cert_data": configuration.ca_cert_data,
        "cert_file": configuration.cert_file,
        "key_file": configuration.key_file,
    }
    if configuration.tls_server_name:
        options["server_hostname"] = configuration.tls_server_name
    if configuration.assert_hostname is not None:
        options["assert_hostname"] = configuration.assert_hostname
    if not configuration.verify_ssl:
        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    options = {key: value for key, value in options.items() if value is not None}
    if configuration.proxy:
        return urllib3.ProxyManager(configuration.proxy, **options)
    return urllib3.PoolManager(**options)
