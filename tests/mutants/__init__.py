"""Bugs put into engine and daemon one at a time, and which gate notices each: `python -m tests.mutants --help`.

catalogue (data/*.yaml) -> checkout (a private copy of engine/) -> gates -> results (JSON) -> table (Markdown)
"""
