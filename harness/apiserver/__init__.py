"""A Kubernetes API server: plays back a recording, or serves live state that accepts writes.

    kinds, selectors, errors        resources, queries and errors of the API: tables and values
    manifest -> store               objects, resourceVersions, history; encoded once for all watchers
    writes, patches                 create, update, patch, delete with the API's semantics
    scope, listing, watching        the part of the store that a request sees
    discovery, openapi, reviews     other endpoints that clients use
    bodies, tables, wire            formats of requests and responses
    app -> server                   HTTP, then TLS, token, kubeconfig, thread
    pace, control                   playback of a recording into the store

In a process that acts as control plane:

    from harness.apiserver import LiveApi
    with LiveApi() as api:
        api.store.apply("services", {"metadata": {"name": "web", "namespace": "shop"}, "spec": {...}})
        for change in api.store.watch("pods", timeout=5): ...
        print(api.url, api.kubeconfig())
"""

from harness.apiserver.errors import StatusError
from harness.apiserver.server import LiveApi
from harness.apiserver.store import Store, StoreChange

__all__ = ["StatusError", "StoreChange", "LiveApi", "Store"]
