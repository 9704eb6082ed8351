"""The commands of `harness`, one module each; `harness.cli` finds them by their names and imports them on demand."""
