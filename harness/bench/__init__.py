"""Benchmarks of service proxies: rows of a profile, measured side by side with a baseline, gated and kept as a history.

rows -> recordings -> measure (inside: the engine; outside: any proxy) -> record per row, kept in the output folder
records -> result -> gates (pairs, a saved result, or steps in the history) -> table, Markdown, page

pytest-benchmark runs the rows (`run`, `suite`), so that its options, its JSON and its comparisons work.
"""
