"""Kubernetes itself: resources, patches, selectors, and access to a cluster. Imports no other part."""
