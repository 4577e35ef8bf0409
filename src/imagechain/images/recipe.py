"""The hash of what a build reads of its project: the Containerfile, build arguments, files of the context.

A project whose image carries the same hash was built from the same files. Covered are content, kind,
permission bits and the targets of symbolic links; not times and owners, which a checkout sets at random, and
not the version of the builder, so that an upgrade of it rebuilds nothing.
"""

import hashlib
import itertools
import os
import posixpath
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import msgspec

from imagechain.images.ignorefile import (
    IgnoreFileError,
    IgnoreRules,
    compile_pattern,
    parse_ignore_file,
    self_and_parents,
)

#: Changed together with what goes into the hash.
_RECIPE_VERSION = "1"
#: Files of one build context.
FILES_MAX = 1_000_000
IGNORE_FILE_BYTES_MAX = 1024 * 1024
_GLOB_CHARACTERS = frozenset("*?[\\")


class RecipeError(Exception):
    """What a build reads cannot be read; the message names the file."""


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """What one build reads of its project."""

    hash: str
    #: The ignore file that applies, which the builder must be told.
    ignore_file: Path | None
    #: Paths in the context that may be read, folders included, in order.
    files: tuple[str, ...] = ()


def find_ignore_file(context: Path, containerfile: Path) -> Path | None:
    """Find the ignore file that buildah would use; one beside the Containerfile comes first."""
    candidates = (
        containerfile.with_name(containerfile.name + ".dockerignore"),
        containerfile.with_name(containerfile.name + ".containerignore"),
        context / ".containerignore",
        context / ".dockerignore",
    )
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def read_recipe(
    *,
    text: bytes,
    build_args: Mapping[str, str],
    context: Path,
    containerfile: Path,
    sources: tuple[str, ...] | None,
    tracked: Mapping[str, int] | None = None,
) -> Recipe:
    """Hash what a build reads.

    Args:
        text: The Containerfile as the builder sees it.
        build_args: Build arguments.
        context: The folder that COPY and ADD read from.
        containerfile: Where the Containerfile is, which may have an ignore file of its own.
        sources: Paths and patterns in the context that COPY and ADD name; None: any file may be read.
        tracked: Permissions by path in the context, which count instead of what a checkout gave the files.

    Raises:
        RecipeError: a file cannot be read, or there are too many.
    """
    if not containerfile.is_file():
        raise RecipeError(f"{containerfile} is gone; restore it, or remove what is built from its image")
    ignore_file = find_ignore_file(context, containerfile)
    rules = read_rules(ignore_file)
    digest = hashlib.sha256()
    digest.update(msgspec.json.encode((_RECIPE_VERSION, text, sorted(build_args.items()))))
    selected = _selected(context, sources, rules)
    tracked = tracked or {}
    for path in selected:
        description = _describe(context / path, tracked.get(path))
        digest.update(msgspec.json.encode((os.fsencode(path).hex(), *description)))
    return Recipe(hash=f"sha256:{digest.hexdigest()}", ignore_file=ignore_file, files=tuple(selected))


def read_rules(ignore_file: Path | None) -> IgnoreRules:
    """Read an ignore file; without one nothing is ignored.

    Raises:
        RecipeError: it cannot be read.
    """
    if ignore_file is None:
        return IgnoreRules()
    try:
        with ignore_file.open("rb") as stream:
            data = stream.read(IGNORE_FILE_BYTES_MAX + 1)
        if len(data) > IGNORE_FILE_BYTES_MAX:
            raise RecipeError(f"{ignore_file} is larger than {IGNORE_FILE_BYTES_MAX} bytes")
        return parse_ignore_file(data.decode(errors="surrogateescape"))
    except IgnoreFileError as error:
        raise RecipeError(f"{ignore_file}: {error}; mend or remove the pattern") from error
    except OSError as error:
        raise _unreadable(ignore_file, error) from error


def _selected(context: Path, sources: tuple[str, ...] | None, rules: IgnoreRules) -> list[str]:
    """List the files and folders that the build can read, sorted, relative to the context."""
    found: set[str] = set()
    for start, pattern in _starts(context, sources):
        for path in _walk(context, start, rules):
            if pattern is None or any(pattern.fullmatch(parent) for parent in self_and_parents(path)):
                found.add(path)
        if len(found) > FILES_MAX:
            raise RecipeError(
                f"{context} has more than {FILES_MAX} files for one build; name what is not needed in a "
                ".containerignore file"
            )
    return sorted(found)


def _starts(context: Path, sources: tuple[str, ...] | None) -> list[tuple[str, re.Pattern[str] | None]]:
    """Say where to look for what is read: where to start, and the pattern that what is below must match."""
    everything: list[tuple[str, re.Pattern[str] | None]] = [("", None)]
    if sources is None:
        return everything
    starts: list[tuple[str, re.Pattern[str] | None]] = []
    for source in sources:
        path = posixpath.normpath(source.lstrip("/") or ".")
        parts = path.split("/")
        literal = list(itertools.takewhile(lambda part: not _GLOB_CHARACTERS & set(part), parts))
        start = "/".join(literal)
        if path == "." or parts[0] == ".." or has_link(context, literal):
            # A link may lead anywhere in the context: rather a build too many than one too few.
            return everything
        try:
            starts.append((start, None if start == path else compile_pattern(path)))
        except IgnoreFileError:
            return everything
    return starts


def has_link(context: Path, parts: Sequence[str]) -> bool:
    """Tell whether one of the folders of a path in the context, or its end, is a symbolic link."""
    return any((context / Path(*parts[:length])).is_symlink() for length in range(1, len(parts) + 1))


def _walk(context: Path, start: str, rules: IgnoreRules) -> Iterator[str]:
    """Give a path and all that is below it, except for what is ignored."""
    waiting = [start]
    while waiting:
        path = waiting.pop()
        ignored = path != "" and rules.ignores(path)
        if ignored and not rules.takes_back:
            continue
        try:
            if not stat.S_ISDIR((context / path).lstat().st_mode):
                children = []
            else:
                children = [entry.name for entry in os.scandir(context / path)]
        except FileNotFoundError:
            continue  # the build will say so
        except OSError as error:
            raise _unreadable(context / path, error) from error
        if path and not ignored:
            yield path
        waiting += [f"{path}/{name}" if path else name for name in children]


def _describe(file: Path, tracked: int | None) -> tuple[str, ...]:
    """Say all that a build can notice of one file."""
    try:
        info = file.lstat()
        permissions = oct(stat.S_IMODE(info.st_mode) if tracked is None else tracked)
        if stat.S_ISREG(info.st_mode):
            with file.open("rb") as stream:
                return "file", permissions, hashlib.file_digest(stream, "sha256").hexdigest()
        if stat.S_ISLNK(info.st_mode):
            return "link", os.fsencode(file.readlink()).hex()
    except OSError as error:
        raise _unreadable(file, error) from error
    # Pipes and sockets are never opened: that could wait for ever.
    return "folder" if stat.S_ISDIR(info.st_mode) else "special", permissions


def _unreadable(file: Path, error: OSError) -> RecipeError:
    return RecipeError(
        f"{file} cannot be read: {error.strerror}; its build reads it: change its permissions, or name it in "
        "a .containerignore file"
    )
