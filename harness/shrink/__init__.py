"""Reduces a recording to a minimal one with which a command still fails.

    recording -> parts (Services, objects, events, fields) -> ddmin, until nothing more can be removed -> recording

`reduction` and `ddmin` are pure: they query whether a candidate still fails.  `trial` answers by running the command.
"""
