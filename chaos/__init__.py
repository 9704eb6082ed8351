"""Faults on a running cluster while traffic flows, from one seeded plan, with a verdict.

experiment (Chaos Toolkit format) -> plan (every operation with its time and target, pure, seeded)
    -> perform (one dispatcher: inject, confirm, hold, heal, confirm) -> target (the lab, or a real cluster)
"""
