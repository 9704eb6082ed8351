"""IP_VS, a dummy device, ipsets and iptables: of the real kernel, and in memory with the same errors."""

from engine.kernel.ipvs.memory import IpvsMemory
from engine.kernel.ipvs.real import IpvsKernel

__all__ = ["IpvsKernel", "IpvsMemory"]
