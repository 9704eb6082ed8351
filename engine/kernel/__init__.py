"""The only packages that access a kernel: one per mode, each with a real and an in-memory implementation."""
