"""nf_tables: the real kernel by `nft -f` and netlink, and one in memory with the same errors."""

from engine.kernel.nftables.memory import NftablesMemory
from engine.kernel.nftables.real import NftablesKernel

__all__ = ["NftablesKernel", "NftablesMemory"]
