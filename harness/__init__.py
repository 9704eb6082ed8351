"""Record, replay and judge what a Kubernetes service proxy does with a cluster's history."""
