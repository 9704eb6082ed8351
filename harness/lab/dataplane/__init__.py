"""The data plane: namespaces and links, pods, proxies, connection tracking, and their observers."""
