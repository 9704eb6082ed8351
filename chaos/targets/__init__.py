"""Where faults go: the lab by default, a real cluster only when asked for."""
