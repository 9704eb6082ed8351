"""Recordings that may leave the company: names and addresses replaced, behaviour kept.

from harness.redact import redact
report = redact("prod.jsonl", "public.jsonl.zst", key)
"""

from harness.redact.rewrite import Report, redact

__all__ = ["Report", "redact"]
