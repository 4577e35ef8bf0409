"""GitLab Runner's `config.toml`: make one of its runners use this executor. Pure: texts only.

The file holds the runner's tokens and whatever else its owner wrote, so it is edited by lines, not written
anew: comments, order and unknown keys stay. What comes out is read again and must be what went in, with our
keys changed and nothing else; otherwise the edit is refused.
"""

import copy
import json
import re
import tomllib
from collections.abc import Mapping
from typing import Any

_HEADER = re.compile(r"\s*\[")
_RUNNER = re.compile(r"\s*\[\[\s*runners\s*\]\]\s*(#.*)?")
_OF_RUNNER = re.compile(r"\s*\[\[?\s*runners\s*\.")
_CUSTOM = re.compile(r"\s*\[\s*runners\s*\.\s*custom\s*\]\s*(#.*)?")
_VALUE = r'(?:"(?:[^"\\]|\\.)*"|\'[^\']*\'|\[[^\]]*\]|[0-9]+)'
_OURS = "imagechain-executor"


class RefusedError(ValueError):
    """The file cannot be edited safely; the message says why."""


def edit(text: str, name: str, runner: Mapping[str, Any], custom: Mapping[str, Any]) -> str:
    """Set keys of a runner and of its table `custom`; return the same text if they are set already.

    An empty name means the only runner of the executor `custom`.

    Raises:
        RefusedError: there is no such runner, it is for another executor, or its lines cannot be understood.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RefusedError(f"it is not TOML: {error}") from error
    runners = table.get("runners")
    if not isinstance(runners, list) or not all(isinstance(entry, dict) for entry in runners):
        raise RefusedError("it has no [[runners]]; register one with --executor custom")
    number = _choose(runners, name)
    wanted = copy.deepcopy(table)
    entry = wanted["runners"][number]
    entry |= runner
    entry["custom"] = {**entry.get("custom", {}), **custom}
    if wanted == table:
        return text
    lines = text.splitlines()
    first, end = _block(lines, number, len(runners))
    block = _edit_block(lines[first:end], runner, custom)
    edited = "\n".join([*lines[:first], *block, *lines[end:]]) + "\n"
    try:
        if tomllib.loads(edited) == wanted:
            return edited
    except tomllib.TOMLDecodeError:
        pass  # told below
    raise RefusedError("its lines are written in a way that cannot be changed safely")


def _choose(runners: list[dict[str, Any]], name: str) -> int:
    """Return which of the runners is meant."""
    names = ", ".join(repr(entry.get("name", "")) for entry in runners)
    found = [
        number
        for number, entry in enumerate(runners)
        if (entry.get("name") == name if name else entry.get("executor") == "custom")
    ]
    if len(found) != 1:
        what = f"are called {name!r}" if name else "have the executor custom"
        raise RefusedError(f"{len(found)} of its runners {what}; choose one with --runner: {names}")
    entry = runners[found[0]]
    if entry.get("executor") != "custom":
        raise RefusedError(
            f"the runner {entry.get('name')!r} is one of the executor {entry.get('executor')!r};"
            " register another one with --executor custom"
        )
    other = str(entry.get("custom", {}).get("run_exec", ""))
    if other and not other.endswith(_OURS):
        raise RefusedError(f"the runner {entry.get('name')!r} has another custom executor: {other}")
    return found[0]


def _block(lines: list[str], number: int, count: int) -> tuple[int, int]:
    """Return where the lines of a runner begin and end."""
    starts = [index for index, line in enumerate(lines) if _RUNNER.fullmatch(line)]
    if len(starts) != count:
        raise RefusedError("its runners are not all written as [[runners]]")
    first = starts[number]
    end = next(
        (
            index
            for index, line in enumerate(lines[first + 1 :], start=first + 1)
            if _HEADER.match(line) and not _OF_RUNNER.match(line)
        ),
        len(lines),
    )
    return first, end


def _edit_block(block: list[str], runner: Mapping[str, Any], custom: Mapping[str, Any]) -> list[str]:
    sections = _sections(block)
    edited = [_set_keys(sections[0], runner, "  ")]
    found = False
    for section in sections[1:]:
        is_custom = _CUSTOM.fullmatch(section[0]) is not None
        found = found or is_custom
        edited.append(_set_keys(section, custom, "    ") if is_custom else section)
    if not found:
        edited.append(_set_keys(["  [runners.custom]"], custom, "    "))
        # Blank lines that ended the runner stay at its end.
        edited[-2:] = [_without_blank_end(edited[-2]), edited[-1] + _blank_end(edited[-2])]
    return [line for section in edited for line in section]


def _sections(block: list[str]) -> list[list[str]]:
    """Split the lines of a runner at its tables' headers."""
    sections: list[list[str]] = []
    for line in block:
        if not sections or _HEADER.match(line):
            sections.append([])
        sections[-1].append(line)
    return sections


def _set_keys(section: list[str], values: Mapping[str, Any], indent: str) -> list[str]:
    """Replace the values of keys that are there, and add the others behind the last line with text."""
    body, end = _without_blank_end(section), _blank_end(section)
    for key, value in values.items():
        written = json.dumps(value)
        pattern = re.compile(rf"(\s*{re.escape(key)}\s*=\s*){_VALUE}(\s*(?:#.*)?)")
        matches = [(index, match) for index, line in enumerate(body) if (match := pattern.fullmatch(line))]
        if matches:
            index, match = matches[0]
            body[index] = f"{match[1]}{written}{match[2]}"
        else:
            body.append(f"{indent}{key} = {written}")
    return body + end


def _without_blank_end(section: list[str]) -> list[str]:
    return section[: len(section) - len(_blank_end(section))]


def _blank_end(section: list[str]) -> list[str]:
    count = 0
    while count < len(section) - 1 and not section[-1 - count].strip():
        count += 1
    return section[len(section) - count :]
