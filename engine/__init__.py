"""A Kubernetes service proxy: (state, events) -> dataplane -> program -> kernel."""
