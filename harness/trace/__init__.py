"""Why does this packet go there?  One packet through the rules as they are, mode by mode.

harness.modes.MODE -> rules as text or elements -> harness.trace.MODE -> Trace (steps, outcome)
"""
