"""Which tags of a repository are mirrored. Pure.

A pattern is a name (`16`), a glob (`17*`), a regular expression between slashes (`/^1[67]-alpine$/`), or a
range of versions (`>=15 <18`). Ranges speak of plain versions only (`16`, `v1.2.3`): what follows a version
(`16-alpine`, `17rc1`) makes it something else, which only a glob or a regular expression takes.
"""

import re
from collections.abc import Callable, Iterable, Sequence
from fnmatch import fnmatchcase

#: Longest pattern; regular expressions run over every tag of a repository.
PATTERN_CHARACTERS_MAX = 1_000
#: Longest version part: what is longer is a date with time or a hash, which no range means.
_VERSION = re.compile(r"(v?)(\d{1,9}(?:\.\d{1,9}){0,3})(.*)", re.DOTALL)
_PLAIN = re.compile(r"v?(\d{1,9}(?:\.\d{1,9}){0,3})")
_COMPARISON = re.compile(r"\s*(>=|<=|!=|>|<|=|~|\^)\s*v?(\d{1,9}(?:\.\d{1,9}){0,3})\s*,?")
_GLOB = re.compile(r"[*?\[]")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")

Takes = Callable[[str], bool]
Version = tuple[int, ...]


class PatternError(ValueError):
    """A text that is no pattern of tags; the message says why."""


def is_name(pattern: str) -> bool:
    """Tell whether a pattern names one tag, so that no list of tags is needed."""
    return _TAG.fullmatch(pattern) is not None


def select(
    patterns: Sequence[str], deny: Sequence[str], newest: int, available: Iterable[str]
) -> tuple[str, ...]:
    """Select tags, sorted.

    Args:
        patterns: what any of these takes, and none of `deny` does.
        deny: of the same form.
        newest: of versions of one form, so many; 0: all. What is no version, or named as it is, stays.
        available: tags that the repository has.

    Raises:
        PatternError: a pattern is wrong.
    """
    named = {pattern for pattern in patterns if is_name(pattern)}
    takes = [compile_pattern(pattern) for pattern in patterns]
    refuses = [compile_pattern(pattern) for pattern in deny]
    found = {
        tag
        for tag in {*named, *available}
        if any(take(tag) for take in takes) and not any(refuse(tag) for refuse in refuses)
    }
    return tuple(sorted(found if not newest else (found & named) | _newest(found - named, newest)))


def _newest(tags: Iterable[str], count: int) -> set[str]:
    """Keep the newest of each group of comparable versions: with equal words around as many numbers."""
    kept: set[str] = set()
    groups: dict[tuple[str, int, str], list[tuple[Version, str]]] = {}
    for tag in tags:
        match = _VERSION.fullmatch(tag)
        if match is None:
            kept.add(tag)
            continue
        version = _numbers(match[2])
        groups.setdefault((match[1], len(version), match[3]), []).append((version, tag))
    for group in groups.values():
        kept.update(tag for _, tag in sorted(group, reverse=True)[:count])
    return kept


def compile_pattern(pattern: str) -> Takes:
    """Make a test of a pattern.

    Raises:
        PatternError: it is none.
    """
    if len(pattern) > PATTERN_CHARACTERS_MAX:
        raise PatternError(f"a pattern of tags has more than {PATTERN_CHARACTERS_MAX} characters")
    if len(pattern) > 1 and pattern.startswith("/") and pattern.endswith("/"):
        try:
            search = re.compile(pattern[1:-1]).search
        except re.error as error:
            raise PatternError(f"{pattern!r} is no regular expression: {error}") from error
        return lambda tag: search(tag) is not None
    if is_name(pattern):
        return lambda tag: tag == pattern
    if pattern[:1] in "<>=!~^" and pattern:
        return _range(pattern)
    if _GLOB.search(pattern):
        return lambda tag: fnmatchcase(tag, pattern)
    raise PatternError(
        f"{pattern!r} is no pattern of tags; write a name, a glob like 17*, a /regular expression/ "
        "or a range like '>=15 <18'"
    )


def _range(pattern: str) -> Takes:
    alternatives = [_comparisons(part, pattern) for part in pattern.split("||")]

    def takes(tag: str) -> bool:
        match = _PLAIN.fullmatch(tag)
        if match is None:
            return False
        version = _numbers(match[1])
        return any(all(compare(version) for compare in comparisons) for comparisons in alternatives)

    return takes


def _comparisons(text: str, pattern: str) -> list[Callable[[Version], bool]]:
    found, position = [], 0
    while position < len(text):
        match = _COMPARISON.match(text, position)
        if match is None:
            raise PatternError(f"{pattern!r} is no range of versions at {text[position:]!r}")
        found.append(_comparison(match[1], _numbers(match[2])))
        position = match.end()
    if not found:
        raise PatternError(f"{pattern!r} has an empty alternative")
    return found


def _comparison(operator: str, bound: Version) -> Callable[[Version], bool]:
    """Compare as many numbers as the bound has: `<18` leaves 18.1 out, `<=17` takes 17.9."""
    size = len(bound)
    match operator:
        case ">=":
            return lambda version: _padded(version, size) >= bound
        case "<=":
            return lambda version: _padded(version, size) <= bound
        case ">":
            return lambda version: _padded(version, size) > bound
        case "<":
            return lambda version: _padded(version, size) < bound
        case "!=":
            return lambda version: _padded(version, size) != bound
        case "~":
            # The last number that is written may grow: ~1.2.3 up to 1.3, ~1.2 up to 1.3, ~1 up to 2.
            fixed = max(1, min(2, size))
            return lambda version: _at_least(version, bound) and version[:fixed] == bound[:fixed]
        case "^":
            # Everything behind the first number that is not 0 may grow.
            fixed = next((index for index, number in enumerate(bound) if number), size - 1) + 1
            return lambda version: _at_least(version, bound) and _padded(version, fixed) == bound[:fixed]
    return lambda version: _padded(version, size) == bound


def _at_least(version: Version, bound: Version) -> bool:
    return _padded(version, len(bound)) >= bound


def _padded(version: Version, size: int) -> Version:
    return (*version, *(0 for _ in range(size)))[:size]


def _numbers(text: str) -> Version:
    return tuple(int(number) for number in text.split("."))
