"""Synthetic recordings: a made-up cluster's Services, EndpointSlices and Nodes, deterministic in its seed."""

from harness.synth.generate import generate
from harness.synth.options import Options

__all__ = ["Options", "generate"]
