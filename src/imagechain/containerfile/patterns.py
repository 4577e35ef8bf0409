"""Shell patterns in substitutions: `${x#p}`, `${x%p}`, `${x/p/r}`. Only `*` and `?` are special.

The rules are those of BuildKit's lexer (`shell/lex.go`), which turns a pattern into a regular expression that
RE2 matches in linear time. Python's engine backtracks, so the wildcards are written as atomic groups: for a
pattern of literals, the earliest match of each piece is always a right one, and nothing needs a second try.
"""

import re
from functools import lru_cache, partial

from imagechain.containerfile.values import ContainerfileError

_ESCAPABLE = "*?\\"
#: `$1`, `${name}` and `$$` in the replacement of `${x//p/r}`, which Go's templates expand.
_TEMPLATE = re.compile(r"\$(?:(\$)|(\w+)|\{(\w+)\})", re.ASCII)


def trim_prefix(pattern: str, value: str, *, greedy: bool) -> str:
    """Remove the shortest (greedy: the longest) prefix that matches."""
    match = _compile(pattern, greedy=greedy).match(value)
    return value if match is None else value[match.end() :]


def trim_suffix(pattern: str, value: str, *, greedy: bool) -> str:
    """Remove the shortest (greedy: the longest) suffix that matches."""
    return trim_prefix(_reversed(pattern), value[::-1], greedy=greedy)[::-1]


def replace(pattern: str, value: str, replacement: str, *, every: bool) -> str:
    """Replace the first match, or every match, of a pattern; each as long as it can be."""
    pieces, position, kept = [], 0, 0
    while position <= len(value) and (match := _search(pattern, value, position)) is not None:
        start, end = match.span()
        pieces.append(value[kept:start])
        if not every:
            return "".join((*pieces, replacement, value[end:]))
        if end > kept or start == 0:  # as in Go, an empty match does not count just after another match
            pieces.append(_TEMPLATE.sub(partial(_template_value, match[0]), replacement))
        kept = end
        position = max(end, position + 1)
    return "".join((*pieces, value[kept:]))


def _template_value(matched: str, template: re.Match[str]) -> str:
    if template[1]:
        return "$"
    return matched if (template[2] or template[3]) == "0" else ""


def _search(pattern: str, value: str, position: int) -> re.Match[str] | None:
    """Find the leftmost match: it starts where the pattern's first piece does, or nowhere."""
    first = _compile(_first_piece(pattern), greedy=True).search(value, position)
    return None if first is None else _compile(pattern, greedy=True).match(value, first.start())


def _first_piece(pattern: str) -> str:
    position = 0
    while position < len(pattern) and pattern[position] != "*":
        position += 2 if pattern[position] == "\\" else 1
    return pattern[:position]


@lru_cache(maxsize=1024)
def _compile(pattern: str, *, greedy: bool) -> re.Pattern[str]:
    """Translate a pattern, piece by piece between its stars."""
    pieces, position = [""], 0
    while position < len(pattern):
        char = pattern[position]
        position += 1
        if char == "*":
            if len(pieces) == 1 or pieces[-1]:
                pieces.append("")
            continue
        if char == "?":
            pieces[-1] += "."
            continue
        if char == "\\":
            escaped = pattern[position : position + 1]
            if escaped and escaped in "}/":
                continue
            if not escaped or escaped not in _ESCAPABLE:
                raise ContainerfileError(
                    f"invalid pattern ({pattern}) in substitution: invalid escape '\\{escaped}'; "
                    "only *, ? and the backslash can be escaped"
                )
            char = escaped
            position += 1
        pieces[-1] += re.escape(char)
    first, *starred = pieces
    if not starred:
        return re.compile(first)
    *middle, last = starred
    star = ".*" if greedy else ".*?"
    return re.compile(first + "".join(f"(?>.*?{piece})" for piece in middle) + star + last)


def _reversed(pattern: str) -> str:
    """Turn a pattern round, escapes still before what they escape."""
    pieces, position = [], 0
    while position < len(pattern):
        width = 2 if pattern[position] == "\\" and position + 1 < len(pattern) else 1
        pieces.append(pattern[position : position + width])
        position += width
    return "".join(reversed(pieces))
