"""The running daemon: its loop, the machine, its life cycle."""
