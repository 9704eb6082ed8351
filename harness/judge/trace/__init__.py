"""Traces one packet through the text of the rules, for each mode.

    program.text(), or the tool's listing -> harness.judge.trace.MODE.tracer(family, local addresses).feed(text)
    packet -> Tracer.trace -> Trace (steps in the tool's syntax, outcome)

A tracer may offer `facts()`, a dict of the values that acceptance cases assert beyond packets
(`virtual_servers`, `ipsets`, `martian_firewall_rule`).
"""
