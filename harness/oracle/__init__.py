"""Folds the events by itself, with no engine code, and says what the node must do.

Written from the Kubernetes API's meaning, for clarity and not for speed; it looks at manifests as
plain dicts and computes everything anew each time.
"""

from harness.oracle.fold import Oracle
from harness.oracle.settings import Settings

__all__ = ["Oracle", "Settings"]
