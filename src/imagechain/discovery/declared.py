"""`.gitlab-deps`: dependencies that people declare, one project a line.

The file is that of the gitlab-deps tool: paths or full URLs of projects, optionally `@branch`, `#` comments.
In a local chain an entry means the project of the tree that its path ends in; branches do not count here.
"""

import re
from collections.abc import Iterable

import msgspec

from imagechain.chain.values import Problem

#: Name of the file.
FILE_NAME = ".gitlab-deps"

_ONLY = re.compile(r"#\s*imagechain:\s*only\s*")
_URL = re.compile(r"^(?:[A-Za-z][A-Za-z0-9+.-]*://[^/]*/|[^/@\s]+@[^/:\s]+:)")


class Entry(msgspec.Struct, frozen=True):
    """One line of a `.gitlab-deps`."""

    #: Path of a project.
    path: str
    #: The branch that is meant; None: the default one.
    branch: str | None
    line: int


class Declaration(msgspec.Struct, frozen=True, kw_only=True):
    """What a `.gitlab-deps` says."""

    projects: tuple[Entry, ...]
    #: Whether it is the whole list: what was found elsewhere does not count.
    only: bool


def parse_declaration(text: str) -> Declaration:
    """Parse a `.gitlab-deps`."""
    lines = text.removeprefix("\ufeff").splitlines()
    projects: list[Entry] = []
    for number, line in enumerate(lines, start=1):
        entry = re.sub(r"(?:^|\s)#.*", "", line).strip()
        if entry:
            path, _, branch = _URL.sub("", entry, count=1).partition("@")
            projects.append(Entry(path.strip("/").removesuffix(".git"), branch or None, number))
    return Declaration(projects=tuple(projects), only=bool(lines and _ONLY.fullmatch(lines[0].strip())))


class ProjectNames:
    """Finds projects of the tree by the end of a path."""

    def __init__(self, ids: Iterable[str], top_name: str) -> None:
        self._by_last: dict[str, list[str]] = {}
        for project in ids:
            name = top_name if project == "." else project
            self._by_last.setdefault(name.rpartition("/")[2], []).append(project)
        self._top_name = top_name

    def find(self, path: str, file: str, line: int) -> str | Problem:
        """Find the project that a path means: the one that shares most of its last components."""
        parts = path.split("/")
        candidates = self._by_last.get(parts[-1], [])
        for length in range(len(parts), 0, -1):
            end = "/".join(parts[-length:])
            matching = [project for project in candidates if f"/{self._name(project)}".endswith(f"/{end}")]
            if end in matching:
                return end
            if len(matching) == 1:
                return matching[0]
            if matching:
                message = f"{path!r} may mean {', '.join(sorted(matching))}; write more of its path"
                return Problem(file=file, line=line, message=message)
        message = (
            f"{path!r} is no project of this tree, so it is no dependency here; correct or remove the line"
        )
        return Problem(file=file, line=line, message=message)

    def _name(self, project: str) -> str:
        return self._top_name if project == "." else project
