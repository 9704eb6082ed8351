"""A local web page for a recording: its state, changes, rules and packets at any time.

history (events and checkpoints; pure) <- views, rules (one moment as JSON; pure) <- server (HTTP on loopback) <- page/
growth adds to the history of a followed source; convergence is measured by a replay in a separate process.
"""
