"""Which files of a build context a builder does not see: `.containerignore` and `.dockerignore`. Pure.

The rules are Docker's (moby/patternmatcher and Go's `filepath.Match`, with `**`): patterns are anchored at
the context, the last one that matches a path or one of its parent folders wins, `!` takes back.
"""

import posixpath
import re
from collections.abc import Sequence
from functools import lru_cache

import msgspec

#: Patterns in one ignore file.
PATTERNS_MAX = 10_000


class IgnoreFileError(ValueError):
    """A pattern that has no meaning; the message names it."""


class IgnoreRules(msgspec.Struct, frozen=True):
    """The patterns of one ignore file, in their order."""

    rules: tuple[tuple[re.Pattern[str], bool], ...] = ()

    def ignores(self, path: str) -> bool:
        """Whether a path, relative to the context, is hidden from the build."""
        ignored = False
        parents = self_and_parents(path)
        for pattern, hides in self.rules:
            if ignored != hides and any(pattern.fullmatch(parent) for parent in parents):
                ignored = hides
        return ignored

    @property
    def takes_back(self) -> bool:
        """Whether something below an ignored folder may be visible all the same."""
        return any(not hides for _, hides in self.rules)


def parse_ignore_file(text: str) -> IgnoreRules:
    """Read an ignore file.

    Raises:
        IgnoreFileError: a pattern is malformed, or there are too many.
    """
    rules = []
    for line in text.removeprefix("\ufeff").splitlines():
        if line.startswith("#"):
            continue
        pattern = line.strip()
        hides = not pattern.startswith("!")
        pattern = pattern.removeprefix("!").strip()
        if not pattern:
            continue
        pattern = posixpath.normpath(pattern)
        if len(pattern) > 1:
            pattern = pattern.lstrip("/")
        rules.append((compile_pattern(pattern), hides))
    if len(rules) > PATTERNS_MAX:
        raise IgnoreFileError(f"it has more than {PATTERNS_MAX} patterns")
    return IgnoreRules(tuple(rules))


@lru_cache(maxsize=PATTERNS_MAX)
def compile_pattern(pattern: str) -> re.Pattern[str]:
    """Translate a pattern of `filepath.Match`, with `**`, into a regular expression for a whole path."""
    result = ""
    rest = pattern
    while rest:
        if rest.startswith("**"):
            rest = rest[2:]
            if rest.startswith("/"):
                rest = rest[1:]
                result += "(?:.*/)?"
            else:
                result += ".*"
        elif rest[0] == "*":
            rest = rest[1:]
            result += "[^/]*"
        elif rest[0] == "?":
            rest = rest[1:]
            result += "[^/]"
        elif rest[0] == "[":
            group, rest = _read_group(rest, pattern)
            result += group
        elif rest[0] == "\\" and len(rest) > 1:
            result += re.escape(rest[1])
            rest = rest[2:]
        else:
            result += re.escape(rest[0])
            rest = rest[1:]
    return re.compile(result, re.DOTALL)


def _read_group(rest: str, pattern: str) -> tuple[str, str]:
    """Translate `[...]`: single characters and ranges, `^` in front for all others, a backslash escapes."""
    position = 1
    negated = rest.startswith("[^")
    position += negated
    members: list[str] = []
    while position < len(rest) and (rest[position] != "]" or not members):
        if rest[position] == "\\":
            position += 1
        members.append(re.escape(rest[position : position + 1]))
        position += 1
        if rest[position : position + 1] == "-" and rest[position + 1 : position + 2] not in ("", "]"):
            end = position + 1 + (rest[position + 1] == "\\")
            members[-1] += "-" + re.escape(rest[end : end + 1])
            position = end + 1
    if position >= len(rest):
        raise IgnoreFileError(f"pattern {pattern!r} has no closing bracket")
    try:
        group = f"[{'^/' if negated else ''}{''.join(members)}]"
        re.compile(group)
    except re.error:
        raise IgnoreFileError(f"pattern {pattern!r} has a range that runs backwards") from None
    return group, rest[position + 1 :]


def self_and_parents(path: str) -> Sequence[str]:
    """Give `a/b/c` as `a`, `a/b`, `a/b/c`."""
    parts = path.split("/")
    return ["/".join(parts[:length]) for length in range(1, len(parts) + 1)]
