"""The walk over a tree: finds the files that discovery reads, by git's ignore rules, and reads them bounded.

Nothing outside the tree is read: symbolic links to files are followed within it, links to folders never.
"""

# Paths are plain texts here: making them with pathlib would take longer than reading the files.
# ruff: noqa: PTH112, PTH113, PTH120, PTH123

import os
import stat
from collections.abc import Callable

import msgspec

from imagechain.chain.values import Problem
from imagechain.discovery.ignore import IgnoreRules
from imagechain.discovery.names import join

#: Most folders that are looked into.
FOLDERS_MAX = 500_000
#: Largest file that is read; no Containerfile is a hundredth of it.
FILE_BYTES_MAX = 1024 * 1024

_IGNORE_FILE = ".gitignore"
_GIT_FOLDER = ".git"


class UnreadableError(Exception):
    """A file that is not read; the message says why, and what to do."""


class Tree(msgspec.Struct, frozen=True, kw_only=True):
    """What a walk found."""

    #: Names of the wanted files, by their folder, both in order.
    files: dict[str, list[str]]
    problems: list[Problem]


class _Level(msgspec.Struct, frozen=True):
    """Ignore rules of one folder, and those of the folders around it."""

    rules: IgnoreRules
    #: How a path relative to the top becomes one relative to the rules: `prefix` + path[`strip`:].
    prefix: str
    strip: int
    outer: "_Level | None"


def walk(root: str, wanted: Callable[[str, str], bool]) -> Tree:
    """Find the files of a tree that are wanted, by folder and name.

    `root` must be free of symbolic links (`os.path.realpath`).
    """
    found = Tree(files={}, problems=[])
    pending: list[tuple[str, _Level | None]] = [(".", _outer_levels(root))]
    folders = 0
    while pending:
        folder, level = pending.pop()
        folders += 1
        if folders > FOLDERS_MAX:
            message = f"more than {FOLDERS_MAX} folders; the rest is not looked into. Name a smaller folder"
            found.problems.append(Problem(file=folder, line=None, message=message))
            break
        absolute = root if folder == "." else f"{root}/{folder}"
        try:
            with os.scandir(absolute) as scan:
                entries = sorted(scan, key=_name)
        except OSError as error:
            message = f"cannot look into the folder: {_reason(error)}; its Containerfiles are missing here"
            found.problems.append(Problem(file=folder, line=None, message=message))
            continue
        if any(entry.name == _IGNORE_FILE for entry in entries):
            rules = _read_rules(f"{absolute}/{_IGNORE_FILE}")
            level = _Level(rules, "", 0 if folder == "." else len(folder) + 1, level)
        inner: list[tuple[str, _Level | None]] = []
        for entry in entries:
            name = entry.name
            path = join(folder, name)
            if not name.isascii() and (problem := _unprintable(path, entry, wanted(folder, name))):
                found.problems.append(problem)
                continue
            if entry.is_dir(follow_symlinks=False):
                if name != _GIT_FOLDER and not _ignored(level, path, is_folder=True):
                    inner.append((path, level))
            elif entry.is_symlink():
                if not _ignored(level, path, is_folder=False):
                    _follow(root, folder, name, wanted, found)
            elif wanted(folder, name) and not _ignored(level, path, is_folder=False):
                found.files.setdefault(folder, []).append(name)
        pending += reversed(inner)
    return found


def _name(entry: os.DirEntry[str]) -> str:
    return entry.name


def _unprintable(path: str, entry: os.DirEntry[str], is_wanted: bool) -> Problem | None:
    """Refuse a name that is no UTF-8, for it could be neither shown nor written to a listing."""
    try:
        path.encode()
    except UnicodeEncodeError:
        if not (is_wanted or entry.is_dir(follow_symlinks=False)):
            return None
        message = "its name is no UTF-8, so it is left out; rename it"
        return Problem(file=os.fsencode(path).decode(errors="backslashreplace"), line=None, message=message)
    return None


def _follow(root: str, folder: str, name: str, wanted: Callable[[str, str], bool], found: Tree) -> None:
    """Take a symbolic link to a file of the tree as that file; a link out of the tree is a problem."""
    path = join(folder, name)
    try:
        target = os.path.realpath(f"{root}/{path}")
    except OSError as error:
        # As those of /proc, which only some may read.
        if wanted(folder, name):
            message = f"the symbolic link cannot be read: {_reason(error)}; it is left out"
            found.problems.append(Problem(file=path, line=None, message=message))
        return
    is_folder = os.path.isdir(target)
    if not (is_folder or wanted(folder, name)):
        return
    if not f"{target}/".startswith(f"{root.rstrip('/')}/"):
        message = (
            "a symbolic link out of the tree is not followed; copy its target, or scan a folder around both"
        )
        found.problems.append(Problem(file=path, line=None, message=message))
    elif not is_folder:
        target_folder, _, target_name = os.path.relpath(target, root).rpartition("/")
        # A link to a wanted file beside it is only another name of that file.
        is_beside = (
            (target_folder or ".") == folder and wanted(folder, target_name) and os.path.isfile(target)
        )
        if not is_beside:
            found.files.setdefault(folder, []).append(name)


def read_file(root: str, path: str) -> bytes:
    """Read a text file of the tree.

    Raises:
        UnreadableError: it is missing, no regular file, too large, or binary.
    """
    try:
        # Not blocking: opening a pipe that has no writer would wait for ever.
        descriptor = os.open(f"{root}/{path}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise UnreadableError("is no regular file; only files and links to them are read")
            if status.st_size > FILE_BYTES_MAX:
                raise UnreadableError(
                    f"is larger than {FILE_BYTES_MAX} bytes, so it is hardly a text; it is not read"
                )
            data = os.read(descriptor, status.st_size + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise UnreadableError(f"cannot be read: {_reason(error)}") from error
    if b"\0" in data:
        raise UnreadableError("is a binary file (it has a NUL byte); it is not read")
    return data


def _reason(error: OSError) -> str:
    return error.strerror or str(error)


def _read_rules(path: str) -> IgnoreRules:
    """Read ignore rules; like git, pass over a file that cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="\n") as file:
            return IgnoreRules(file.read(FILE_BYTES_MAX))
    except OSError:
        return IgnoreRules("")


def _ignored(level: _Level | None, path: str, *, is_folder: bool) -> bool:
    while level is not None:
        decision = level.rules.decide(level.prefix + path[level.strip :], is_folder=is_folder)
        if decision is not None:
            return decision
        level = level.outer
    return False


def _outer_levels(root: str) -> _Level | None:
    """Read the ignore rules around the top folder, if it is in a git repository that does not ignore it."""
    top = root
    while not os.path.lexists(f"{top}/{_GIT_FOLDER}"):
        if os.path.dirname(top) == top:
            return None
        top = os.path.dirname(top)
    inside = os.path.relpath(root, top)
    parts = [] if inside == "." else inside.split("/")
    around: list[tuple[int, IgnoreRules]] = []
    if os.path.isfile(exclude := f"{top}/{_GIT_FOLDER}/info/exclude"):
        around.append((0, _read_rules(exclude)))
    for depth in range(len(parts)):
        if os.path.isfile(ignore_file := "/".join([top, *parts[:depth], _IGNORE_FILE])):
            around.append((depth, _read_rules(ignore_file)))
        decisions = (
            rules.decide("/".join(parts[base : depth + 1]), is_folder=True)
            for base, rules in reversed(around)
        )
        if next((decision for decision in decisions if decision is not None), False):
            return None
    level: _Level | None = None
    for base, rules in around:
        level = _Level(rules, "".join(f"{part}/" for part in parts[base:]), 0, level)
    return level
