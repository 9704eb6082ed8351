"""Reads kernel state back and derives its behaviour.  Shares no code with the engine."""
