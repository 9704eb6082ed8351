"""The corpus: small clusters, packets, and the expected outcome of each, by the rules of docs/kube-proxy.md.

`cases/` are files, each derived from a test of kube-proxy; `rows_*` are written by hand, one per rule.
"""

from pathlib import Path

CASES_FOLDER = Path(__file__).with_name("cases")
