"""What other tools recorded or dumped, as recordings.

from harness.imports import convert
report = convert("cluster.yaml", "cluster.jsonl")
"""

from harness.imports.convert import Report, convert

__all__ = ["Report", "convert"]
