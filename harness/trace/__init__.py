"""Why does this packet go there?  One packet through the rules as they are, mode by mode.

    program.text(), or what the tool lists -> harness.trace.MODE.tracer(family, local addresses).feed(text)
    packet -> Tracer.trace -> Trace (steps in the tool's own words, outcome)

`cases` reads acceptance cases, `run` judges them by tracer and kernel, `objects` asks about one packet in
a recording.  A tracer may offer `facts()`, a dict of what cases assert beyond packets (`virtual_servers`,
`ipsets`, `martian_firewall_rule`).
"""
