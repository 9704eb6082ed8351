"""The daemon as a process in a namespace, against a real API server over HTTPS."""
