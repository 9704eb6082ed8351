"""iptables: the real kernel, and one in memory that rejects the same programs."""

from engine.kernel.iptables.memory import IptablesMemory
from engine.kernel.iptables.real import IptablesKernel

__all__ = ["IptablesKernel", "IptablesMemory"]
