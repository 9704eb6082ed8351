"""The only rooms that touch a kernel: one a mode, each with the real one and one that only remembers."""
