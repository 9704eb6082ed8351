"""Lists and watches of a cluster as raw bytes, and the facts for a recording's header."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import msgspec

from harness.kube.access import Access
from harness.kube.client import ApiError, Client, Disconnected, disconnected
from harness.kube.resources import BY_NAME, SERVICE_CIDRS
from harness.kube.scope import ResourceScope

if TYPE_CHECKING:
    import urllib3  # its parent package is imported late

PAGE = 500


class ListPage(msgspec.Struct, gc=False):
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


_decode_page = msgspec.json.Decoder(ListPage).decode


class ListWatch:
    """List and watch, for several threads at once."""

    def __init__(self, access: Access, selectors: dict[str, str]) -> None:
        """`selectors`: label selectors by resource. Raises AccessError if the cluster cannot be accessed."""
        self._client = Client(access)
        self.cluster = self._client.cluster
        self._selectors = selectors

    def version(self) -> str:
        """The server's gitVersion; ApiError or Disconnected."""
        return str(msgspec.json.decode(self._client.body("GET", "/version")).get("gitVersion", ""))

    def service_cidrs(self) -> list[str]:
        """The CIDRs of Service addresses; empty if the API does not have them (before 1.33).

        ApiError (status 403 without permission), Disconnected.
        """
        try:
            listed = msgspec.json.decode(self._client.body("GET", SERVICE_CIDRS.path()), type=_ServiceCidrs)
        except ApiError as error:
            if error.status == 404:
                return []
            raise
        except msgspec.DecodeError:
            return []
        return [cidr for item in listed.items or () for cidr in item.spec.cidrs]

    def page(self, scope: ResourceScope, token: str = "", limit: int = PAGE) -> ListPage:
        """One page of a list; ApiError or Disconnected."""
        query = {"limit": limit, **({"continue": token} if token else {})}
        body = self._client.body("GET", self._url(scope, **query))
        try:
            return _decode_page(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Disconnected(f"the list is not valid JSON: {error}", reached=False) from None

    def watch(self, scope: ResourceScope, version: str, seconds: int) -> Iterator[list[bytes]]:
        """Lines of a watch after the given resourceVersion, as they arrive, until the server ends it.

        ApiError, or Disconnected when the connection breaks.
        """
        options = {"watch": "true", "allowWatchBookmarks": "true", "resourceVersion": version}
        # The server must end it after `seconds`; otherwise it is considered gone.
        url = self._url(scope, **options, timeoutSeconds=seconds)
        response = self._client.open("GET", url, seconds=seconds + 30.0)
        try:
            yield from _lines(response)
        finally:
            response.close()
            response.release_conn()

    def _url(self, scope: ResourceScope, **query: Any) -> str:
        if selector := self._selectors.get(scope.resource):
            query["labelSelector"] = selector
        return f"{BY_NAME[scope.resource].path(scope.namespace)}?{urlencode(query)}"


def _lines(response: urllib3.BaseHTTPResponse) -> Iterator[list[bytes]]:
    rest = b""
    try:
        for chunk in response.stream(1 << 16):
            lines = (rest + chunk).split(b"\n")
            rest = lines.pop()
            if lines:
                yield lines
    except Exception as error:  # many kinds, from urllib3
        raise disconnected(error, reached=True) from None
    if rest.strip():
        raise Disconnected("the watch ended in the middle of an event", reached=True)
