"""Ignore rules as git has them, for a walk that never enters an ignored folder.

Source of the rules: git's `gitignore` manual page, `dir.c` and `wildmatch.c`. Patterns here match only the
path itself, not what is below it, because the walk prunes: so a later negation means what it means in git.
The library pathspec differs from git there, and refuses patterns that git passes over. The tests compare with
git itself.
"""

import re

_SPECIAL = re.compile(r"[*?\[\\]")
_NEGATIONS = "!^"
_CLASSES = {
    "alnum": "a-zA-Z0-9",
    "alpha": "a-zA-Z",
    "blank": r" \t",
    "digit": "0-9",
    "lower": "a-z",
    "space": r"\s",
    "upper": "A-Z",
    "xdigit": "0-9a-fA-F",
}


class IgnoreRules:
    """The patterns of one `.gitignore`."""

    def __init__(self, text: str) -> None:
        rules = [rule for line in text.split("\n") if (rule := _parse_line(line.removesuffix("\r")))]
        rules.reverse()  # the last pattern that matches decides
        self._rules = rules
        # Most paths match no pattern at all, which one expression finds sooner than many.
        names = [rule.source for rule in rules if rule.name_only]
        paths = [rule.source for rule in rules if not rule.name_only]
        self._any_name = (
            re.compile("|".join(f"(?:{source})" for source in names), re.DOTALL) if names else None
        )
        self._any_path = (
            re.compile("|".join(f"(?:{source})" for source in paths), re.DOTALL) if paths else None
        )

    def decide(self, path: str, *, is_folder: bool) -> bool | None:
        """Tell whether a path, relative to the file's folder, is ignored; None: no pattern speaks of it."""
        name = path[path.rfind("/") + 1 :]
        if not (self._any_name and self._any_name.fullmatch(name)) and not (
            self._any_path and self._any_path.fullmatch(path)
        ):
            return None
        for rule in self._rules:
            if (is_folder or not rule.folders_only) and rule.pattern.fullmatch(
                name if rule.name_only else path
            ):
                return not rule.negated
        return None


class _Rule:
    def __init__(self, source: str, *, negated: bool, folders_only: bool, name_only: bool) -> None:
        self.source = source
        self.pattern = re.compile(source, re.DOTALL)
        self.negated = negated
        self.folders_only = folders_only
        self.name_only = name_only


def _parse_line(line: str) -> _Rule | None:
    if line.startswith("#"):
        return None
    stripped = line.rstrip(" ")
    backslashes = len(stripped) - len(stripped.rstrip("\\"))
    if stripped != line and backslashes % 2:
        stripped += " "  # an escaped blank belongs to the name
    negated = stripped.startswith("!")
    pattern = stripped[1:] if negated else stripped
    if not pattern:
        return None
    folders_only = pattern.endswith("/")
    pattern = pattern.removesuffix("/")
    name_only = "/" not in pattern
    source = _translate(pattern.removeprefix("/"))
    if source is None:
        return None
    return _Rule(source, negated=negated, folders_only=folders_only, name_only=name_only)


def _translate(pattern: str) -> str | None:
    """Translate a pattern to a regular expression; None if it can match nothing, as an open bracket does."""
    special = _SPECIAL.search(pattern)
    # git compares the text before the first special character apart, and begins to match after it.
    start = special.start() if special else len(pattern)
    parts = [re.escape(pattern[:start])]
    position = start
    while position < len(pattern):
        character = pattern[position]
        after = position + 1
        if character == "*":
            after = position + len(pattern[position:]) - len(pattern[position:].lstrip("*"))
            at_start = position == start or pattern[position - 1] == "/"
            if after - position == 1 or not at_start or pattern[after : after + 1] not in {"", "/"}:
                parts.append("[^/]*")
            elif after == len(pattern):
                parts.append(".*")
            else:
                parts.append("(?:.*/)?")
                after += 1
        elif character == "?":
            parts.append("[^/]")
        elif character == "[":
            bracket = _translate_bracket(pattern, after)
            if bracket is None:
                return None
            part, after = bracket
            parts.append(part)
        else:
            if character == "\\":
                if after == len(pattern):
                    return None
                character = pattern[after]
                after += 1
            parts.append(re.escape(character))
        position = after
    return "".join(parts)


def _translate_bracket(pattern: str, position: int) -> tuple[str, int] | None:
    """Translate what follows `[`; gives the expression and the place after `]`."""
    negated = pattern[position : position + 1] in {*_NEGATIONS}
    position += negated
    parts: list[str] = []
    first = position
    while position < len(pattern) and (pattern[position] != "]" or position == first):
        character = pattern[position]
        if character == "[" and pattern[position + 1 : position + 2] == ":":
            end = pattern.find(":]", position + 2)
            name = pattern[position + 2 : end]
            if end < 0 or name not in _CLASSES:
                return None
            parts.append(_CLASSES[name])
            position = end + 2
            continue
        if character == "\\":
            position += 1
            character = pattern[position : position + 1]
        low = character
        position += 1
        if pattern[position : position + 1] == "-" and pattern[position + 1 : position + 2] not in {"", "]"}:
            position += 1 + (pattern[position + 1] == "\\")
            high = pattern[position : position + 1]
            position += 1
            if low <= high:
                parts.append(f"{re.escape(low)}-{re.escape(high)}")
        else:
            parts.append(re.escape(low))
    if position >= len(pattern):
        return None
    if not parts:
        return ("[^/]" if negated else "(?!)"), position + 1
    return f"(?!/)[{'^' if negated else ''}{''.join(parts)}]", position + 1
