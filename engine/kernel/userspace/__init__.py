"""The userspace proxy: a separate process that listens and forwards, and one in memory with the same tables.

UserspaceKernel -- program as JSON --> server (asyncio) -- tables --> sockets, forward_tcp, forward_udp
"""

from engine.kernel.userspace.memory import UserspaceMemory
from engine.kernel.userspace.real import UserspaceKernel

__all__ = ["UserspaceKernel", "UserspaceMemory"]
