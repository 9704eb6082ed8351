"""The views of all nodes of a recorded cluster, computed in one run that can use several processes and machines."""
