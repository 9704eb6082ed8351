"""The daemon's client of the Kubernetes API: lists, watches, Events, its own Node."""
