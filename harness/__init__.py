"""Record a cluster's history, replay it into a Kubernetes service proxy, and judge the result."""
