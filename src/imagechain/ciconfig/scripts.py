"""What scripts of CI jobs say of image builds: `--build-arg NAME=value`, `--build-arg NAME`, names of images.

The words are read as a shell reads them, as far as quotes go; what only a running shell can know (`$(date)`,
`${X:-y}`, variables it sets itself) gives no value.
"""

import re
from collections.abc import Iterable

from imagechain.ciconfig.document import Node
from imagechain.ciconfig.variables import Scope

_WORD = r"""(?P<word>(?:"(?:\\.|[^"\\])*"|'[^']*'|\\.|[^\s"'\\;|&()<>])+)"""
_BUILD_ARG = re.compile(rf"--build-arg(?:=|\s+\\?\s*){_WORD}", re.DOTALL)
_IMAGE_BUILD = re.compile(rf"\bimagechain\s+image\s+(?:build|manifest)\b(?:[ \t]+(?!-){_WORD})?", re.DOTALL)
#: Where a build has no name, as `imagechain image build` looks for one.
_NAME_VARIABLES = ("IMAGE_NAME", "CI_PROJECT_NAME")
_QUOTED = re.compile(r"""(?P<text>"(?:\\.|[^"\\])*"|'[^']*'|\\.|[^"'\\]+)""", re.DOTALL)
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class PassedArgument:
    """One `--build-arg` of a script."""

    def __init__(self, name: str, value: str | None, literal: bool, at: Node) -> None:
        self.name = name
        #: As written, without quotes; None: the value of the variable of the same name.
        self._value = value
        #: Whether `$` in it is no variable.
        self._literal = literal
        self._at = at

    def value(self, scope: Scope) -> str | None:
        """Tell the value that the job passes; None where only its shell knows."""
        if self._value is None:
            return scope.value(self.name, self._at)
        if self._literal:
            return self._value
        text, known = scope.expand(self._value, self._at)
        return text if known and "$" not in text and "`" not in text else None


class BuiltImage:
    """One `imagechain image build` of a script."""

    def __init__(self, word: str, at: Node) -> None:
        self._word = word
        self._at = at

    def name(self, scope: Scope) -> str | None:
        """Tell the name of the image, below the project's registry; None where only the job's shell knows."""
        if not self._word:
            return next(filter(None, (scope.value(name, self._at) for name in _NAME_VARIABLES)), None)
        text, known = scope.expand(_unquoted(self._word), self._at)
        return text if known and "$" not in text and "`" not in text else None


def built_images(script: Iterable[Node]) -> list[BuiltImage]:
    """Find the images that the lines of a script build with imagechain."""
    return [
        BuiltImage(match["word"] or "", line)
        for line in script
        if isinstance(line.value, str) and "imagechain" in line.value
        for match in _IMAGE_BUILD.finditer(line.value)
    ]


def passed_arguments(script: Iterable[Node]) -> list[PassedArgument]:
    """Find what the lines of a script pass to image builds."""
    found: list[PassedArgument] = []
    for line in script:
        if isinstance(line.value, str) and "--build-arg" in line.value:
            found += filter(None, (_passed(match["word"], line) for match in _BUILD_ARG.finditer(line.value)))
    return found


def _passed(word: str, at: Node) -> PassedArgument | None:
    parts = _parts(word)
    name, equals, value = _unquoted(word).partition("=")
    if not _NAME.fullmatch(name):
        return None
    literal = all(part[0] in "'\\" or "$" not in part for part in parts)
    return PassedArgument(name, value if equals else None, literal, at)


def _parts(word: str) -> list[str]:
    return [match["text"] for match in _QUOTED.finditer(word)]


def _unquoted(word: str) -> str:
    return "".join(part[1:-1] if part[0] in "\"'" else part.removeprefix("\\") for part in _parts(word))
