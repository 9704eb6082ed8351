"""Targets of faults: the lab by default, a real cluster only on request."""
