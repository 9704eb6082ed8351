"""Synthetic recordings: Services, EndpointSlices and Nodes of a generated cluster, deterministic in the seed."""

from harness.log.synth.every_rule import every_rule
from harness.log.synth.generate import generate
from harness.log.synth.options import SynthOptions

__all__ = ["SynthOptions", "every_rule", "generate"]
