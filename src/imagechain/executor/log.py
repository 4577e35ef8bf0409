"""The job log, as far as the executor writes to it. Never an environment, a script or arguments."""

import sys

_PREFIX = "imagechain-executor: "


def say(text: str) -> None:
    """Tell the people who read the job log."""
    for line in text.splitlines():
        print(f"{_PREFIX}{line}", file=sys.stderr)  # noqa: T201
    sys.stderr.flush()
