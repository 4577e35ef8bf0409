"""Writes to a history; a module of its own, because other processes run it."""

from pathlib import Path

from imagechain.vetting.record import HistoryFile
from imagechain.vetting.values import Sighting

NOW = 1_793_491_200.0


def sighting(digest: str = "a", *, at: float = NOW, ref: str = "docker.io/library/app:1") -> Sighting:
    return Sighting(
        ref=ref, platform="linux/amd64", digest=digest, seen_at=at, clocks={"last-modified": NOW - 9.0}
    )


def append(path: Path, name: str, count: int) -> None:
    file = HistoryFile(path)
    for number in range(count):
        file.add([sighting(str(number), at=NOW + number, ref=f"docker.io/library/{name}:1")])
