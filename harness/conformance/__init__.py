"""Conformance of a service proxy with kube-proxy: cases with a small cluster, packets and their expected outcomes.

corpus -> cases by configuration -> one proxy each (harness.external) -> packets -> results -> table, JUnit, JSON, page
"""
