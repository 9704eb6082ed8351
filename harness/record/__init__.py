"""Recording a cluster: its API's watches -> ledger -> log on disk -> topic.

watcher (a thread a resource: list, watch, resume, relist) -> queue -> ledger (pure: what to record)
-> log (the file, or a spool) -> forwarder (a thread: the topic follows the log)
"""
