"""From the text of a file to its instructions: directives, continuations, comments and heredocs.

Source of the rules: BuildKit's `parser/parser.go` and `parser/directives.go`. Nothing is expanded here, and
only as much of an instruction is understood as is needed to find its end.
"""

import re

import msgspec

from imagechain.containerfile.values import ContainerfileError
from imagechain.containerfile.words import (
    GO_BOOLEANS,
    SPACE,
    Heredoc,
    find_heredocs,
    parse_string_array,
    split_flags,
)

#: Longest file; real ones have a few kilobytes.
FILE_BYTES_MAX = 1024 * 1024
#: Longest line with its end, as in BuildKit's scanner.
LINE_BYTES_MAX = 64 * 1024
#: Most instructions in one file.
INSTRUCTIONS_MAX = 10_000

_DIRECTIVE = re.compile(r"([a-zA-Z][a-zA-Z0-9]*)[ \t\n\f\r]*=[ \t\n\f\r]*(.+?)[ \t\n\f\r]*")
_DIRECTIVES = ("syntax", "escape", "check")
_HEAD = re.compile(r"([^\t\v\f\r ]*)(?:[\t\v\f\r ]+(.*))?", re.DOTALL)
_HEREDOC_KEYWORDS = frozenset({"RUN", "COPY", "ADD"})
#: Lines in which directives can be: a shebang, and each directive once.
_TOP_LINES = 1 + len(_DIRECTIVES)


class HeredocText(msgspec.Struct, frozen=True):
    """A heredoc with its lines."""

    mark: Heredoc
    text: str


class Instruction(msgspec.Struct, frozen=True):
    """One instruction, its lines joined, split as far as all instructions are."""

    line: int
    #: In upper case.
    keyword: str
    flags: list[str]
    arguments: str
    heredocs: list[HeredocText]
    #: The joined lines as written.
    source: str


class Source(msgspec.Struct, frozen=True):
    """A file, split into instructions."""

    escape: str
    instructions: list[Instruction]


def decode(data: bytes | str) -> str:
    """Decode a file.

    Raises:
        ContainerfileError: it is no text, or too long.
    """
    size = len(data)
    if size > FILE_BYTES_MAX:
        raise ContainerfileError(
            f"the file has {size} bytes, more than {FILE_BYTES_MAX}; is it a Containerfile?"
        )
    text = data if isinstance(data, str) else _decode_bytes(data)
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise ContainerfileError("a binary file (it has NUL bytes), not a Containerfile", line)
    if not text:
        raise ContainerfileError("the Dockerfile cannot be empty; a Containerfile starts with FROM")
    return text.removeprefix("\ufeff")


def _decode_bytes(data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ContainerfileError(
            "not text in UTF-8; if it is a Containerfile, save it as UTF-8", line
        ) from None


def split_instructions(text: str) -> Source:
    """Split a file, given without its byte order mark, into instructions.

    Raises:
        ContainerfileError: a directive, a line or a heredoc is malformed, or there is no instruction.
    """
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    if len(text) >= LINE_BYTES_MAX // 4:
        _check_line_lengths(lines)
    if "\r" in text:
        lines = [line.rstrip("\r") for line in lines]
    escape = "\\"
    for number, (name, value) in _directives(lines):
        if name == "escape":
            if value not in ("\\", "`"):
                raise ContainerfileError(f"invalid escape token '{value}' does not match ` or \\", number)
            escape = value
        elif name == "check":
            _check_lint_options(value, number)
    instructions = _Splitter(lines, escape).read()
    if not instructions:
        raise ContainerfileError("file with no instructions; a Containerfile starts with FROM")
    return Source(escape, instructions)


def find_syntax(text: str) -> tuple[str, int] | None:
    """Find the frontend image that the file asks for, and the line that does (`# syntax=image`).

    BuildKit looks for it after a `#!` line too, where the other directives are not found any more.
    """
    lines = [line.rstrip("\r") for line in text.split("\n", _TOP_LINES)[:_TOP_LINES]]
    shebang = lines[0].startswith("#!")
    try:
        directives = _directives(lines[shebang:], trimmed=False)
    except ContainerfileError:  # said by `split_instructions`, or below a shebang and so no directive
        return None
    for number, (name, value) in directives:
        if name == "syntax":
            return value.split(" ")[0], number + shebang
    return None


def _directives(lines: list[str], *, trimmed: bool = True) -> list[tuple[int, tuple[str, str]]]:
    """Read the directives at the top of a file; any other line, an empty one too, ends them."""
    found: dict[str, tuple[int, tuple[str, str]]] = {}
    for number, raw_line in enumerate(lines, 1):
        line = raw_line.lstrip(SPACE) if trimmed else raw_line
        if not line.startswith("#"):
            break
        match = _DIRECTIVE.fullmatch(line[1:].lstrip(SPACE))
        name = match[1].lower() if match is not None else ""
        if match is None or name not in _DIRECTIVES:
            break
        if name in found:
            raise ContainerfileError(f"only one {name} parser directive can be used", number)
        found[name] = (number, (name, match[2]))
    return list(found.values())


def _check_lint_options(value: str, line: int) -> None:
    """Check `# check=skip=...;error=...`: BuildKit builds nothing where it is wrong."""
    for option in value.split(" ", maxsplit=1)[0].split(";", 2):
        name, equals, text = (part.strip(SPACE) for part in option.partition("="))
        if not equals or name not in ("skip", "experimental", "error"):
            raise ContainerfileError(f"failed to parse check options: invalid check option {option!r}", line)
        if name == "error" and text not in GO_BOOLEANS:
            raise ContainerfileError(f"failed to parse check options: {option!r}: use true or false", line)


def _check_line_lengths(lines: list[str]) -> None:
    for number, line in enumerate(lines, 1):
        if len(line) >= LINE_BYTES_MAX // 4 and len(line.encode("utf-8", "replace")) >= LINE_BYTES_MAX:
            raise ContainerfileError(
                f"dockerfile line greater than max allowed size of {LINE_BYTES_MAX - 1}", number
            )


class _Splitter:
    """Walks over the lines of a file."""

    def __init__(self, lines: list[str], escape: str) -> None:
        self.lines = lines
        self.escape = escape
        self.position = 0

    def read(self) -> list[Instruction]:
        instructions: list[Instruction] = []
        lines, escape = self.lines, self.escape
        count = len(lines)
        may_continue = f"{escape} \t"
        while self.position < count:
            line = lines[self.position].lstrip(SPACE)
            self.position += 1
            if not line or line[0] == "#":
                continue
            start = self.position
            if line[-1] in may_continue:
                line = self._join(line)
            if len(instructions) >= INSTRUCTIONS_MAX:
                raise ContainerfileError(f"more than {INSTRUCTIONS_MAX} instructions; split the file", start)
            try:
                instructions.append(self._instruction(line, start))
            except ContainerfileError as error:
                raise error.at(start) from None
        return instructions

    def _join(self, line: str) -> str:
        """Join the lines that an instruction goes on in; comments and empty lines among them vanish."""
        escape = self.escape
        trimmed = line.rstrip(" \t")
        if trimmed[-1:] != escape or trimmed[-2:-1] == escape:
            return line
        pieces = [trimmed[:-1]]
        while self.position < len(self.lines):
            raw_line = self.lines[self.position]
            self.position += 1
            body = raw_line.lstrip(SPACE)
            if not body or body[0] == "#":
                continue
            trimmed = raw_line.rstrip(" \t")
            if trimmed[-1:] != escape or trimmed[-2:-1] == escape:
                pieces.append(raw_line)
                break
            pieces.append(trimmed[:-1])
        return "".join(pieces)

    def _instruction(self, line: str, start: int) -> Instruction:
        keyword, flags, arguments = split_head(line, self.escape)
        heredocs: list[HeredocText] = []
        if "<<" in line and self._may_have_heredocs(keyword, arguments):
            heredocs = [self._heredoc_text(mark) for mark in find_heredocs(line)]
        return Instruction(start, keyword, flags, arguments, heredocs, line)

    def _may_have_heredocs(self, keyword: str, arguments: str) -> bool:
        if keyword == "ONBUILD" and arguments:
            keyword, _, arguments = split_head(arguments, self.escape)
        return keyword in _HEREDOC_KEYWORDS and parse_string_array(arguments) is None

    def _heredoc_text(self, mark: Heredoc) -> HeredocText:
        text: list[str] = []
        while self.position < len(self.lines):
            line = self.lines[self.position]
            self.position += 1
            if (line.lstrip("\t") if mark.chomp else line) == mark.name:
                return HeredocText(mark, "".join(f"{line}\n" for line in text))
            text.append(line)
        raise ContainerfileError(f"unterminated heredoc; a line {mark.name!r} must end it")


def split_head(line: str, escape: str) -> tuple[str, list[str], str]:
    """Split an instruction into its keyword, in upper case, its flags and its arguments."""
    match = _HEAD.fullmatch(line.strip(SPACE))
    assert match is not None  # noqa: S101 - the expression matches any text
    keyword, arguments = match[1].upper(), match[2]
    if not arguments:
        return keyword, [], ""
    arguments = arguments.lstrip(SPACE)
    if not arguments.startswith("--"):
        return keyword, [], arguments
    flags, arguments = split_flags(arguments, escape)
    return keyword, flags, arguments
