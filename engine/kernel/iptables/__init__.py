"""iptables: the real kernel by `iptables-restore`, and one in memory with the same refusals."""

from engine.kernel.iptables.memory import IptablesMemory
from engine.kernel.iptables.real import IptablesKernel

__all__ = ["IptablesKernel", "IptablesMemory"]
