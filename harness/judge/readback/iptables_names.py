"""Names of a service port's chains (IPT-02)."""

from __future__ import annotations

import base64
import hashlib


def chain_suffix(text: str) -> str:
    """The hash after `KUBE-SVC-` and the like; `text` is `namespace/name:porttcp`."""
    return base64.b32encode(hashlib.sha256(text.encode()).digest())[:16].decode()
