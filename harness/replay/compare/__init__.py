"""One recording in several modes: one run per mode, and where the modes behave differently."""
