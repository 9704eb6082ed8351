"""Converts recordings and dumps of other tools.

from harness.log.imports import convert
report = convert("cluster.yaml", "cluster.jsonl")
"""

from harness.log.imports.convert import Report, convert

__all__ = ["Report", "convert"]
