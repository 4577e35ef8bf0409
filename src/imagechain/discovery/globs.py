"""Globs of `imagechain.toml`: `*` and `?` stay within a folder, `**` does not."""

import re
from collections.abc import Mapping
from typing import Generic, TypeVar

Value = TypeVar("Value")

_TOKEN = re.compile(r"\*\*/|\*\*|\*|\?")
_MEANING = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
_ONLY_STARS = re.compile(r"\*+")


class Glob:
    """A key of `[chain.images]` or `[chain.build_args]`: names folders, or Containerfiles.

    A key that ends in stars names folders only: `images/*` means the folders in `images`, and not also the
    Containerfile of `images` itself. The top folder is `.`, and of the globs only `**` names it too.
    """

    def __init__(self, key: str) -> None:
        text = key.strip("/")
        while text.startswith("./"):
            text = text.removeprefix("./").lstrip("/")
        self._everything = text == "**"
        self._pattern = compile_glob(text)
        self._names_files = not _ONLY_STARS.fullmatch(text.rpartition("/")[2])
        #: The path that it names, if it has no wildcards.
        self.plain = None if _TOKEN.search(text) else text

    def matches(self, folder: str, file: str) -> bool:
        """Tell whether it names a project with this folder and this Containerfile."""
        if self._everything:
            return True
        if (folder != "." or self.plain == ".") and self._pattern.fullmatch(folder):
            return True
        return self._names_files and self._pattern.fullmatch(file) is not None


class GlobTable(Generic[Value]):
    """A table of the settings whose keys are globs; knows afterwards which of them named nothing."""

    def __init__(self, entries: Mapping[str, Value]) -> None:
        self._entries = list(entries.items())
        self._used: set[int] = set()
        # A chain of many images may have a key for each: those are looked up, only real globs are tried.
        self._plain: dict[str, list[int]] = {}
        self._globs: list[tuple[int, Glob]] = []
        for index, key in enumerate(entries):
            glob = Glob(key)
            if glob.plain is not None:
                self._plain.setdefault(glob.plain, []).append(index)
            else:
                self._globs.append((index, glob))

    def matching(self, folder: str, file: str) -> list[Value]:
        """List the values of all keys that name a project, in the order of the table."""
        found = [*self._plain.get(folder, ()), *self._plain.get(file, ())]
        found += (index for index, glob in self._globs if glob.matches(folder, file))
        self._used.update(found)
        return [self._entries[index][1] for index in sorted(found)]

    def unused_keys(self) -> list[str]:
        """List the keys that named nothing of what was asked for."""
        return [key for index, (key, _) in enumerate(self._entries) if index not in self._used]


def compile_glob(text: str) -> re.Pattern[str]:
    """Translate a glob of paths to a regular expression for `fullmatch`."""
    parts: list[str] = []
    position = 0
    for match in _TOKEN.finditer(text):
        starts_component = match.start() == 0 or text[match.start() - 1] == "/"
        parts.append(re.escape(text[position : match.start()]))
        parts.append(".*/" if match[0] == "**/" and not starts_component else _MEANING[match[0]])
        position = match.end()
    parts.append(re.escape(text[position:]))
    return re.compile("".join(parts), re.DOTALL)
