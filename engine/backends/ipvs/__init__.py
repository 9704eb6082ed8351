"""ipvs mode: virtual servers on a dummy device, ipsets that rules of fixed text look into.

`layout` keeps what each Service wants, `sets` and `rules` are kube-proxy's names and texts; all pure.
"""

from engine.backends.ipvs.layout import IpvsBackend

__all__ = ["IpvsBackend"]
