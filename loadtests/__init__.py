"""Traffic to a cluster's Service addresses, by locust, at a rate that does not depend on answers.

    spec -> flows (where requests go)   shapes (how many arrive per second)
         -> users (each an even stream of arrivals, every request in its own greenlet)
         -> requests (one request, one outcome) -> log (seconds, failures, histograms)

The only package that imports locust, which patches sockets: it runs as a separate process,
`python -m loadtests.run`.
"""
