"""The node daemon `proxy-engine`: the engine with kube-proxy's configuration, life cycle and HTTP endpoints.

    argv, file -> options -> run ─► api ─► watching (one thread per resource) ─► loop: observe, pace, sync ─► kernel
                                                                              │
                                                           reporting: health, metrics, events ─► http

`configuration`, `decode`, `validation`, `sanity`, `flags` and `node_ips` are pure;
`main` reads the file and the host's name.
"""
