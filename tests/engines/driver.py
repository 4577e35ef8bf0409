"""Run `up` on a folder as a process of its own, to be interrupted and killed: driver.py FOLDER [JOBS]."""

import asyncio
import sys
from pathlib import Path

import msgspec

from imagechain.config import Settings
from imagechain.discovery.local import discover
from imagechain.engines.folders import find_folders
from imagechain.engines.local import Began, Event, Options, Waiting, run_up
from imagechain.images import choose_builder
from imagechain.refs import Platform


def main() -> None:
    top = Path(sys.argv[1])

    def report(event: Event) -> None:
        if isinstance(event, Began | Waiting):
            sys.stderr.write(f"{event}\n")

    result = run_up(
        lambda: discover(top, Settings(), platform=Platform("linux", "amd64")),
        asyncio.run(choose_builder()),
        find_folders(top),
        Options(jobs=2),
        report,
    )
    sys.stdout.write(msgspec.json.encode(result).decode())
    sys.exit(130 if result.is_interrupted else 1 if result.failed else 0)


main()
