"""Folds events without any engine code, and computes the behaviour that the node must have.

Written from the semantics of the Kubernetes API, for clarity rather than speed: it reads manifests as plain dicts and
computes everything from scratch each time.
"""

from harness.judge.oracle.fold import Oracle
from harness.judge.oracle.settings import Settings

__all__ = ["Oracle", "Settings"]
