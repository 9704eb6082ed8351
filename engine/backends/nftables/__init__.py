"""nftables mode: a fixed skeleton of rules over flat maps, so that a change costs elements only.

`skeleton` is the rules as `nft -f` text, `layout` keeps which elements say what, both pure.
"""

from engine.backends.nftables.layout import NftablesBackend

__all__ = ["NftablesBackend"]
