"""iptables mode: the chains and rules that users of kube-proxy know, written chain by chain.

`names` and `rules` are kube-proxy's names and texts, `skeleton` what does not depend on Services,
`layout` what has to be written from one sync to the next; all pure.
"""

from engine.backends.iptables.layout import IptablesBackend

__all__ = ["IptablesBackend"]
