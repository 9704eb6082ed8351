"""iptables mode: the chains and rules that users of kube-proxy know, written chain by chain.

`names` and `rules` are kube-proxy's names and texts, `skeleton` what does not depend on Services,
`layout` the writes of each sync; all pure.
"""

from engine.backends.iptables.layout import IptablesBackend

__all__ = ["IptablesBackend"]
