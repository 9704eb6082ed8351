"""The node daemon `proxy-engine`: kube-proxy's configuration, life cycle and HTTP around the engine.

    argv, file -> options -> run ─► api ─► watching (a thread a resource) ─► loop: observe, pace, sync ─► kernel
                                                                              │
                                                           reporting: health, metrics, events ─► http

`configuration`, `decode`, `validation`, `sanity`, `flags` and `node_ips` decide and touch nothing;
`main` reads the file and the host's name.
"""
