"""The judge: the expected fate of packets, derived from events alone, and what the kernel does with them."""
