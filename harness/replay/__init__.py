"""Replay: a recording through the engine, by the recording's own clock, measured and judged.

schedule (batches) -> session (observe, sync, time) -> verify (kernel against oracle) -> result
"""
