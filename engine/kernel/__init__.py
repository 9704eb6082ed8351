"""The only rooms that touch a kernel: `nftables` the real one, `memory` one that only remembers."""
