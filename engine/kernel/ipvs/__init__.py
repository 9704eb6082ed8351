"""IP_VS, a dummy device, ipsets and iptables: the real kernel's, and one in memory with the same refusals."""

from engine.kernel.ipvs.memory import IpvsMemory
from engine.kernel.ipvs.real import IpvsKernel

__all__ = ["IpvsKernel", "IpvsMemory"]
