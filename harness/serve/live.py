"""A store that takes writes, as the API server does them: for clients over HTTP and for code in this process.

store.apply("services", manifest)            create or replace, no questions asked
store.create / update / patch / delete       as the API: conflicts, generations, graceful deletion
store.get, store.list                        manifests, decoded anew
store.watch("pods")                          changes as they come; blocks
store.subscribe(callback)                    every change, in the writer's thread
"""

from harness.serve.store import Store


class LiveStore(Store):
    """x"""
