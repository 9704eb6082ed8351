"""ipvs mode: virtual servers on a dummy device, and ipsets matched by a fixed set of rules.

`layout` computes what each Service needs, `sets` and `rules` have kube-proxy's names and texts; all pure.
"""

from engine.backends.ipvs.layout import IpvsBackend

__all__ = ["IpvsBackend"]
