"""Trees of files, made and discovered."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from imagechain.config import Settings
from imagechain.discovery import Discovery
from imagechain.discovery.local import discover
from imagechain.refs import Platform

AMD64 = Platform("linux", "amd64")


class Chain:
    """A folder with files in it; asks discovery what it finds."""

    def __init__(self, top: Path) -> None:
        self.top = top

    def write(self, files: Mapping[str, str | bytes]) -> "Chain":
        for name, content in files.items():
            path = self.top / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return self

    def discover(self, settings: Mapping[str, Any] | None = None, **options: Any) -> Discovery:
        """Discover, with these `[chain]` settings."""
        tree = msgspec.convert({"chain": dict(settings or {})}, Settings)
        return discover(self.top, tree, **{"platform": AMD64, **options})


def ids(found: Discovery) -> list[str]:
    return list(found.projects)


def edges(found: Discovery) -> list[tuple[str, str | None, str, int]]:
    """List child, parent, kind and line."""
    return [(one.child, one.parent, one.kind, one.line) for one in found.dependencies]


def problems(found: Discovery) -> list[tuple[str, int | None]]:
    """List file and line."""
    return [(problem.file, problem.line) for problem in found.problems]


def only_message(found: Discovery) -> str:
    (problem,) = found.problems
    return problem.message
