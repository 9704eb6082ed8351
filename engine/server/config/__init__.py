"""Reads and validates flags and the configuration file as kube-proxy does."""
