"""`python -m loadtests.run SPEC OUT [locust's own options]`: one load process.

It sends until standard input ends, or for the spec's `seconds`.  With `--web-ui` locust's page is served on
loopback's port 8089 meanwhile; `--master` or `--worker` spread the load over machines as locust does.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from loadtests.spec import SpecError, read_spec


def main() -> None:
    """Replace this process with locust."""
    if len(sys.argv) < 3:
        sys.exit(f"{__doc__}\nSPEC and OUT are required")
    spec_path, out, *rest = sys.argv[1:]
    try:
        spec = read_spec(spec_path)
    except SpecError as error:
        sys.exit(f"error: {error}")
    os.environ |= {"LOADTEST_SPEC": spec_path, "LOADTEST_OUT": out}
    words = ["-f", str(Path(__file__).with_name("locustfile.py")), "--exit-code-on-error", "0", "--only-summary"]
    if "--web-ui" in rest:
        rest.remove("--web-ui")
        words += ["--autostart", "--web-host", "127.0.0.1"]
    elif not {"--master", "--worker"} & set(rest):
        words.append("--headless")
    if spec.seconds is None and "--worker" not in rest:
        os.environ["LOADTEST_UNTIL_STDIN_ENDS"] = "1"
    os.execv(sys.executable, [sys.executable, "-m", "locust", *words, *rest])


if __name__ == "__main__":
    main()
