"""Acceptance cases: small clusters, packets and expected outcomes, run on the engine, its programs and real kernels."""
