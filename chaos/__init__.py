"""Injects faults into a running cluster under load, following one seeded plan, and computes a verdict.

experiment (Chaos Toolkit format) -> plan (every operation with its time and target, pure, seeded)
    -> perform (one dispatcher: inject, confirm, hold, heal, confirm) -> target (the lab, or a real cluster)
"""
