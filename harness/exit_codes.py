"""Exit codes with one meaning in all commands of `harness`; docs/troubleshooting.md has the table.

`chaos` has its own for verdicts.
"""

from __future__ import annotations

EXIT_FAILED = 1
"""What the command needs is not available (kernel, broker, API, address), or it found what it looks for."""
EXIT_INPUT = 2
"""Bad input, options or environment."""
EXIT_DIGEST, EXIT_GATE, EXIT_UNVERIFIED, EXIT_UNKNOWN, EXIT_SLOWER = 3, 4, 5, 6, 7
EXIT_INTERRUPTED, EXIT_TERMINATED = 130, 143
"""Ended by SIGINT or SIGTERM."""
