"""Folds events without any engine code, and computes the behaviour that the node must have.

Written from the semantics of the Kubernetes API: it reads manifests as plain dicts, and computes what each Service asks
for on its own, again only when that Service, its slices or the node changed.  `Oracle.forget` makes it compute
everything from scratch, as a replay does before its last check.
"""

from harness.judge.oracle.fold import Oracle
from harness.judge.oracle.settings import Settings

__all__ = ["Oracle", "Settings"]
