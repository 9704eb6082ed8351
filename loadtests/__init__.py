"""Traffic to a cluster's Service addresses, by locust, at a rate that does not depend on answers.

    spec -> flows (where requests go)   shapes (how many arrive per second)
         -> users (each an even stream of arrivals, every request in a greenlet of its own)
         -> requests (one request, one outcome) -> log (seconds, failures, histograms)

The only package that imports locust, which patches sockets: it runs as a process of its own,
`python -m loadtests.run`.
"""
