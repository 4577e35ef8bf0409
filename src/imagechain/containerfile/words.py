"""Words of an instruction: blanks as Go knows them, quoted words, JSON arrays, CSV fields, heredoc marks.

Source of the rules: BuildKit's `parser/line_parsers.go`, `parser/split_command.go` and `parser/parser.go`.
"""

import json
import re

import msgspec

from imagechain.containerfile.lexer import Lexer, Syntax
from imagechain.containerfile.values import ContainerfileError

#: What Go's `unicode.IsSpace` is true for; Python's `str.strip` takes U+001C to U+001F too.
SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a"
    "\u2028\u2029\u202f\u205f\u3000"
)
#: Blanks that part the words of an instruction where quotes do not matter.
BLANKS = re.compile(r"[\t\v\f\r ]+")
#: What Go's `strconv.ParseBool` accepts.
GO_BOOLEANS = frozenset({"1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False"})
_HEREDOC = re.compile(r"([0-9]*)<<(-?)[\t\n\f\r ]*([^<]*)")
_HEREDOC_SYNTAX = Syntax()
#: Words with quotes and escapes kept; a lone escape at the end belongs to none.
_QUOTED_WORDS = {
    escape: re.compile(
        rf"(?:[^{SPACE}'\"{re.escape(escape)}]++|{re.escape(escape)}.|'[^']*+(?:'|\Z)"
        rf"|\"(?:[^\"{re.escape(escape)}]|{re.escape(escape)}.)*+(?:\"|\Z|(?={re.escape(escape)}\Z)))++",
        re.DOTALL,
    )
    for escape in "\\`"
}
_CSV_FIELD = re.compile(r'"((?:[^"]|"")*+)"|([^",]*+)')


class Heredoc(msgspec.Struct, frozen=True):
    """The mark of a text that follows an instruction's line."""

    #: The line that ends it.
    name: str
    #: Whether tabs before that line are taken off.
    chomp: bool
    #: Whether variables in the text are expanded: its name was not quoted.
    expand: bool


def find_heredocs(line: str) -> list[Heredoc]:
    """Find the heredoc marks of an instruction's line, in order."""
    lexer = Lexer(line, {}, _HEREDOC_SYNTAX, keep_unset=True, raw_quotes=True)
    try:
        words = lexer.split(raw_escapes=True)
    except ContainerfileError:  # a line that cannot be lexed is the shell's business, and has no heredocs
        return []
    return [heredoc for word in words if (heredoc := parse_heredoc(word)) is not None]


def parse_heredoc(word: str) -> Heredoc | None:
    """Read a word as a heredoc mark (`<<EOF`, `<<-"EOF"`, `3<<EOF`), if it is one."""
    match = _HEREDOC.fullmatch(word) if "<<" in word else None
    if match is None or not match[3]:
        return None
    names = Lexer(match[3], {}, _HEREDOC_SYNTAX, keep_unset=True).split(raw_escapes=False)
    if len(names) != 1:
        return None
    raw = Lexer(match[3], {}, _HEREDOC_SYNTAX, keep_unset=True, raw_quotes=True).split(raw_escapes=False)
    return Heredoc(names[0], match[2] == "-", len(raw) == 1 and _quotes_in(raw[0]) == _quotes_in(names[0]))


def _quotes_in(text: str) -> int:
    return text.count("'") + text.count('"')


def split_quoted(text: str, escape: str) -> list[str]:
    """Split at blanks outside quotes; quotes and escapes stay."""
    if "'" not in text and '"' not in text and escape not in text and text.isascii():
        return BLANKS.split(text.strip(SPACE)) if text else []
    return [match[0] for match in _QUOTED_WORDS[escape].finditer(text)]


def split_blanks(text: str) -> list[str]:
    """Split at blanks, whatever is quoted."""
    return BLANKS.split(text) if text else []


def parse_string_array(text: str) -> list[str] | None:
    """Read the JSON form of an instruction's arguments; None: they are in the shell form.

    Raises:
        ContainerfileError: it is a JSON array, but not of strings only.
    """
    text = text.lstrip(SPACE)
    if not text.startswith("["):
        return None
    try:
        items = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):  # Go, too, takes what is nested too deep for no JSON
        return None
    if not all(isinstance(item, str) for item in items):
        raise ContainerfileError("when using JSON array syntax, arrays must be comprised of strings only")
    return [item if item.isascii() else _without_surrogates(item) for item in items]


def _without_surrogates(text: str) -> str:
    """Replace lone surrogates, which JSON can spell and UTF-8 cannot, as Go does."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def split_flags(text: str, escape: str) -> tuple[list[str], str]:
    """Split the flags (`--name=value`, quotes removed) off an instruction's arguments."""
    flags: list[str] = []
    position = 0
    while text.startswith("--", position):
        flag, position = _read_flag(text, position, escape)
        if flag == "--":
            break
        flags.append(flag)
        while position < len(text) and text[position] in SPACE:
            position += 1
    return flags, text[position:].strip(SPACE)


def _read_flag(text: str, position: int, escape: str) -> tuple[str, int]:
    """Read one word; quotes are removed, the escape character takes the next one as it is."""
    pieces: list[str] = []
    quote = ""
    while position < len(text):
        char = text[position]
        if char == quote:
            quote = ""
        elif char == escape:
            position += 1
            pieces.append(text[position : position + 1])
        elif quote:
            pieces.append(char)
        elif char in SPACE:
            break
        elif char in "'\"":
            quote = char
        else:
            pieces.append(char)
        position += 1
    return "".join(pieces), min(position, len(text))


def split_csv(text: str) -> list[str]:
    """Split the fields of a `--mount` or `--device`; a field may be quoted.

    Raises:
        ContainerfileError: a quote stands where none may.
    """
    if '"' not in text:
        return text.split(",")
    fields: list[str] = []
    position = 0
    while True:
        match = _CSV_FIELD.match(text, position)
        if match is None or (match.end() < len(text) and text[match.end()] != ","):
            raise ContainerfileError(f'parse error: bare or extraneous " in {text!r}; quote whole fields')
        fields.append(match[1].replace('""', '"') if match[1] is not None else match[2])
        position = match.end() + 1
        if match.end() >= len(text):
            return fields
