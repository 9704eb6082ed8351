"""The control plane: the API, controllers, kubelets and their probes."""
