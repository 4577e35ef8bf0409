"""Patterns of image names and project paths: `*` stays within a path component, `**` does not. Pure."""

import re
from collections.abc import Iterable, Sequence

_TOKEN = re.compile(r"\*\*/|\*\*|\*|\?|[^*?]+")
_MEANING = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}


def matches(pattern: str, text: str) -> bool:
    """Tell whether the whole text matches the pattern."""
    regex = "".join(_MEANING.get(token) or re.escape(token) for token in _TOKEN.findall(pattern))
    return re.fullmatch(regex, text, re.DOTALL) is not None


def allowed(patterns: Sequence[str], names: Iterable[str]) -> bool:
    """Tell whether a thing is listed under one of its names, and excluded (by a leading `!`) under none."""
    names = tuple(names)
    refused = [pattern[1:] for pattern in patterns if pattern.startswith("!")]
    listed = [pattern for pattern in patterns if not pattern.startswith("!")]
    if any(matches(pattern, name) for pattern in refused for name in names):
        return False
    return any(matches(pattern, name) for pattern in listed for name in names)
