"""nftables mode: a fixed skeleton of rules over flat maps, so that a change updates only elements.

`skeleton` has the rules as `nft -f` text, `layout` computes the elements; both are pure.
"""

from engine.backends.nftables.layout import NftablesBackend

__all__ = ["NftablesBackend"]
