"""Redacts recordings for sharing: replaces names and addresses, and preserves behaviour.

from harness.log.redact import redact
report = redact("prod.jsonl", "public.jsonl.zst", key)
"""

from harness.log.redact.rewrite import Report, redact

__all__ = ["Report", "redact"]
