"""userspace mode: a small proxy with ordinary sockets, for environments without netfilter.

`program` is its input, `layout` computes that from Services, `tables` is its state,
`balancer` selects the endpoint of a connection; all pure.  `engine.kernel.userspace` does the I/O.
"""

from engine.backends.userspace.layout import UserspaceBackend

__all__ = ["UserspaceBackend"]
