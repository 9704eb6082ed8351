"""Replays a recording through the engine on the recording's clock, measures and judges it.

schedule (batches) -> session (observe, sync, time) -> verify (kernel against oracle) -> result
"""
