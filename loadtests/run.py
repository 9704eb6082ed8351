"""`python -m loadtests.run SPEC OUT [locust's own options]`: one load, as a process of its own.

Headless by default, until standard input ends; with `--web-ui` locust's page is served on port 8089 instead, and
`--master` or `--worker` spread the load over machines as locust does.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from loadtests.spec import SpecError, read_spec


def main() -> None:
    """Becomes locust."""
    if len(sys.argv) < 3:
        sys.exit(f"{__doc__}\nSPEC and OUT are needed")
    spec_path, out, *rest = sys.argv[1:]
    try:
        spec = read_spec(spec_path)
    except SpecError as error:
        sys.exit(f"error: {error}")
    os.environ |= {"LOADTEST_SPEC": spec_path, "LOADTEST_OUT": out}
    headless = not {"--web-ui", "--master", "--worker"} & set(rest)
    words = ["-f", str(Path(__file__).with_name("locustfile.py")), "--exit-code-on-error", "0", "--only-summary"]
    if headless:
        words += ["--headless", "--reset-stats"]
        os.environ["LOADTEST_UNTIL_STDIN_ENDS"] = "" if spec.seconds is not None else "1"
    rest = [word for word in rest if word != "--web-ui"]
    os.execv(sys.executable, [sys.executable, "-m", "locust", *words, *rest])


if __name__ == "__main__":
    main()
