"""A Kubernetes API in a process: a recording played back, or live state that takes writes.

    kinds, selectors, errors        what the API has, asks and answers: tables and values
    manifest -> store               objects, resourceVersions, history; encoded once for all watchers
    writes, patches                 create, update, patch, delete as the API does them
    scope, listing, watching        what one request sees of the store
    discovery, tables, wire         what clients ask besides, and the forms of an answer
    app -> server                   HTTP around it, then TLS, token, kubeconfig, a thread
    pace, control                   a recording, event by event, into the store

In a process that plays control plane:

    from harness.serve import LiveApi
    with LiveApi() as api:
        api.store.apply("services", {"metadata": {"name": "web", "namespace": "shop"}, "spec": {...}})
        for change in api.store.watch("pods", timeout=5): ...
        print(api.url, api.kubeconfig())
"""

from harness.serve.errors import ApiError
from harness.serve.server import LiveApi
from harness.serve.store import Change, Store

__all__ = ["ApiError", "Change", "LiveApi", "Store"]
