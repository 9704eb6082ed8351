"""Throwaway environments for rules: network namespaces and virtual machines, which end with this process."""
