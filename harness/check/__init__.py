"""Reads a kernel back and says in the oracle's words what it would do. Shares no code with the engine."""
