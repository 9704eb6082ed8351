"""Any service proxy as a program, measured and judged from outside: by kernel notifications and real packets.

recording -> API inside a node's namespace -> the proxy (a process) -> that namespace's kernel
                                                                        |  moments (notified, or polled)
oracle over the touched Services -> probes (packets) -> converged?  <---+
oracle over everything -> packet judge -> verdict
"""
