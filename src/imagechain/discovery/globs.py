"""Globs of `imagechain.toml`: `*` and `?` stay within a folder, `**` does not."""

import re

_TOKEN = re.compile(r"\*\*/|\*\*|\*|\?")
_MEANING = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
_ONLY_STARS = re.compile(r"\*+")


class Glob:
    """A key of `[chain.images]` or `[chain.build_args]`: names folders, or Containerfiles.

    A key that ends in stars names folders only: `images/*` means the folders in `images`, and not also the
    Containerfile of `images` itself. The top folder is `.`, and of the globs only `**` names it too.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        text = key.strip("/")
        while text.startswith("./"):
            text = text.removeprefix("./").lstrip("/")
        self._everything = text == "**"
        self._pattern = compile_glob(text)
        self._names_files = not _ONLY_STARS.fullmatch(text.rpartition("/")[2])
        self._is_plain = not _TOKEN.search(text)

    def matches(self, folder: str, file: str) -> bool:
        """Tell whether it names a project with this folder and this Containerfile."""
        if self._everything:
            return True
        if (folder != "." or self._is_plain) and self._pattern.fullmatch(folder):
            return True
        return self._names_files and self._pattern.fullmatch(file) is not None


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
