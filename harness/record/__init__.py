"""Records a cluster: API watches -> ledger -> log on disk -> topic.

watcher (one thread per resource: list, watch, resume, relist) -> queue -> ledger (pure: what to record)
-> log (the file, or a spool) -> forwarder (a thread: the topic follows the log)
"""
