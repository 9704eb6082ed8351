"""Injects bugs into engine and daemon one by one, and records what detects them: `python -m tests.mutants --help`.

catalogue (data/*.yaml) -> checkout (a private copy of engine/) -> gates -> results (JSON) -> table (Markdown)
"""
