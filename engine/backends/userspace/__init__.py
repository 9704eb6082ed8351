"""userspace mode: a small proxy of ordinary sockets, for places without netfilter.

`program` is what it is told, `layout` how Services become that, `tables` what it then holds,
`balancer` who gets the next connection; all pure.  `engine.kernel.userspace` does the I/O.
"""

from engine.backends.userspace.layout import UserspaceBackend

__all__ = ["UserspaceBackend"]
