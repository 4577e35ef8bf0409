"""The lexer of words: quotes, escapes, and all forms of substitution, nested.

The rules are BuildKit's (`shell/lex.go`), its quirks included; callers use it by `expand` and `words`.
"""

import re
from collections.abc import Mapping

import msgspec

from imagechain.containerfile.patterns import replace, trim_prefix, trim_suffix
from imagechain.containerfile.values import ContainerfileError, Dialect

#: Longest text that one word may expand to: variables that double each other grow without bound otherwise.
EXPANSION_CHARACTERS_MAX = 64 * 1024
#: Deepest `${a:-${b:-...}}`.
NESTING_DEPTH_MAX = 50

#: POSIX's special parameters (XCU 2.5.2): one character after the dollar, never set here.
_SPECIAL_PARAMETERS = "@*#?-$!0"
_KNOWN_TO_BUILDAH = "buildah knows ${x}, ${x:-w} and ${x:+w} only"
#: What stands for the end of the text in a message.
_UNSUPPORTED_END = "\N{REPLACEMENT CHARACTER}"


class Syntax(msgspec.Struct, frozen=True):
    """How words of a file are read."""

    escape: str = "\\"
    dialect: Dialect = "buildkit"


def check_size(characters: int) -> None:
    """Keep what one word expands to within its bound."""
    if characters > EXPANSION_CHARACTERS_MAX:
        raise ContainerfileError(
            f"a word expands to more than {EXPANSION_CHARACTERS_MAX} characters; shorten its variables"
        )


class Lexer:
    """Reads one text from left to right.

    The raw modes keep quotes, escapes and unset variables as they are: heredocs are found with them.
    """

    __slots__ = (
        "depth",
        "dialect",
        "end",
        "env",
        "escape",
        "keep_unset",
        "modern",
        "open_world",
        "pending",
        "position",
        "quotes",
        "raw_escapes",
        "raw_quotes",
        "size",
        "text",
        "unset",
        "unset_text",
        "used",
        "words",
    )

    def __init__(
        self,
        text: str,
        env: Mapping[str, str],
        syntax: Syntax,
        *,
        open_world: bool = False,
        unset_text: str = "",
        quotes: bool = True,
        keep_unset: bool = False,
        raw_quotes: bool = False,
    ) -> None:
        self.text = text
        self.end = len(text)
        self.position = 0
        self.env = env
        self.escape = syntax.escape
        self.dialect = syntax.dialect
        self.open_world = open_world
        self.unset_text = unset_text
        self.quotes = quotes
        self.keep_unset = keep_unset
        self.raw_quotes = raw_quotes
        self.raw_escapes = False
        self.used: set[str] = set()
        self.unset: set[str] = set()
        self.modern = False
        self.size = 0
        self.depth = 0
        #: The words of the text, if `split` reads it.
        self.words: list[str] = []
        self.pending: list[str] | None = None

    def split(self, *, raw_escapes: bool) -> list[str]:
        """Split the text into words at blanks that are not quoted."""
        self.pending = []
        self.until("", raw_escapes=raw_escapes)
        return self.words

    def until(self, stop: str, *, raw_escapes: bool) -> str:
        """Expand up to a character, which is consumed; the empty one is the end of the text."""
        outer_escapes, self.raw_escapes = self.raw_escapes, raw_escapes
        self.depth += 1
        if self.depth > NESTING_DEPTH_MAX:
            raise ContainerfileError(
                f"substitutions are nested deeper than {NESTING_DEPTH_MAX}; simplify them"
            )
        splitter = None
        if self.pending is not None:
            # BuildKit's lexer has one buffer for all depths: what stands before a substitution is lost.
            self.pending.clear()
            splitter = _Splitter(self.pending)
        pieces: list[str] = []
        while self.position < self.end:
            char = self.text[self.position]
            if char == stop:
                self.position += 1
                break
            piece = self._quoted_piece(char)
            is_quoted = piece is not None
            if piece is None:
                piece = self._dollar() if char == "$" else self._plain(stop)
            pieces.append(piece)
            if splitter is not None:
                splitter.add(piece, quoted=is_quoted)
        else:
            if stop:
                raise ContainerfileError(f"unexpected end of statement while looking for matching {stop}")
        if splitter is not None:
            self.words = splitter.finish()
        self.raw_escapes = outer_escapes
        self.depth -= 1
        return "".join(pieces)

    def _quoted_piece(self, char: str) -> str | None:
        """Read what blanks do not part, if it starts here."""
        if char == "'" and self.quotes:
            return self._single_quoted()
        if char == '"' and self.quotes:
            return self._double_quoted()
        if char == self.escape:
            return self._escaped(char)
        if char == "<" and self.pending is not None:
            return self._angle()
        return None

    def _plain(self, stop: str) -> str:
        match = _PLAIN[self.escape, stop].match(self.text, self.position)
        assert match is not None  # noqa: S101 - the caller has seen that the character is not special
        self.position = match.end()
        return match[0] or self._next()

    def _next(self) -> str:
        self.position += 1
        return self.text[self.position - 1]

    def _peek(self) -> str:
        return self.text[self.position : self.position + 1]

    def _escaped(self, escape: str) -> str:
        """Read an escape character and what it escapes; at the end of the text it is dropped."""
        self.position += 1
        kept = escape if self.raw_escapes else ""
        return kept + (self._next() if self.position < self.end else "")

    def _angle(self) -> str:
        """Read `<<` with the blanks after it, which do not part a heredoc's mark from its name."""
        self.position += 1
        if self._peek() != "<":
            return "<"
        start = self.position - 1
        self.position += 1
        while self._peek() in ("\t", "\r", " "):
            self.position += 1
        return self.text[start : self.position]

    def _single_quoted(self) -> str:
        close = self.text.find("'", self.position + 1)
        if close < 0:
            self.position = self.end
            raise ContainerfileError("unexpected end of statement while looking for matching single-quote")
        start, self.position = self.position, close + 1
        return self.text[start : close + 1] if self.raw_quotes else self.text[start + 1 : close]

    def _double_quoted(self) -> str:
        quote = '"' if self.raw_quotes else ""
        self.position += 1
        pieces = [quote]
        while self.position < self.end:
            char = self.text[self.position]
            if char == '"':
                self.position += 1
                pieces.append(quote)
                return "".join(pieces)
            if char == "$":
                pieces.append(self._dollar())
            elif char == self.escape:
                pieces.append(self._escaped_in_double_quotes(char))
            else:
                match = _PLAIN_IN_QUOTES[self.escape].match(self.text, self.position)
                assert match is not None  # noqa: S101 - as in `_plain`
                self.position = match.end()
                pieces.append(match[0])
        raise ContainerfileError("unexpected end of statement while looking for matching double-quote")

    def _escaped_in_double_quotes(self, escape: str) -> str:
        self.position += 1
        kept = escape if self.raw_escapes else ""
        following = self._peek()
        if not following:
            return kept
        if following in ('"', "$", escape):
            self.position += 1
            return kept + following
        return kept + escape

    def _dollar(self) -> str:
        self.position += 1
        if self._peek() != "{":
            name = self._name()
            return self._value_of(name, f"${name}") if name else "$"
        self.position += 1
        following = self._peek()
        if not following:
            raise ContainerfileError("syntax error: missing '}'")
        if following in "{}:":
            raise ContainerfileError("syntax error: bad substitution")
        name = self._name()
        modifier = self._next() if self.position < self.end else _UNSUPPORTED_END
        if modifier == "}":
            return self._value_of(name, f"${{{name}}}")
        if modifier == "/":
            return self._replaced(name)
        null_is_unset = modifier == ":"
        if null_is_unset:
            modifier = self._next() if self.position < self.end else _UNSUPPORTED_END
        self._check_modifier(modifier, null_is_unset=null_is_unset)
        return self._modified(name, modifier, null_is_unset=null_is_unset)

    def _check_modifier(self, modifier: str, *, null_is_unset: bool) -> None:
        written = f":{modifier}" if null_is_unset else modifier
        if not (null_is_unset and modifier in "+-"):
            self.modern = True
            if self.dialect == "buildah":
                if not null_is_unset:
                    raise ContainerfileError(f"Missing ':' in substitution ({written}): {_KNOWN_TO_BUILDAH}")
                raise ContainerfileError(
                    f"Unsupported modifier ({modifier}) in substitution: {_KNOWN_TO_BUILDAH}"
                )
        if (null_is_unset and modifier in "#%") or (not null_is_unset and modifier not in "+-?#%"):
            raise ContainerfileError(f"unsupported modifier ({written}) in substitution")

    def _modified(self, name: str, modifier: str, *, null_is_unset: bool) -> str:
        word = self._operand("}", raw_escapes=modifier in "#%", missing="syntax error: missing '}'")
        written = f":{modifier}" if null_is_unset else modifier
        value = self._lookup(name)
        if value is None and self.keep_unset:
            return f"${{{name}{written}{word}}}"
        if modifier not in "+-?#%":
            raise ContainerfileError(f"unsupported modifier ({written}) in substitution")
        absent = value is None or (null_is_unset and not value)
        if modifier == "-":
            return word if value is None or absent else self._grown(value)
        if modifier == "+":
            return "" if absent else word
        if modifier == "?":
            if absent and not (value is None and self.open_world):
                state = "unset" if value is None else "empty"
                raise ContainerfileError(f"{name}: {word or f'is not allowed to be {state}'}")
            return self._grown(value or "")
        greedy = word.startswith(modifier)
        trim = trim_suffix if modifier == "%" else trim_prefix
        return self._grown(trim(word[1:] if greedy else word, value or "", greedy=greedy))

    def _replaced(self, name: str) -> str:
        self._check_modifier_is_known_to_buildah()
        every = self._peek() == "/"
        if every:
            self.position += 1
        pattern = self._operand("/", raw_escapes=True, missing="syntax error: missing '/' in ${}")
        replacement = self._operand("}", raw_escapes=True, missing="syntax error: missing '}'")
        value = self._lookup(name)
        if value is None and self.keep_unset:
            return f"${{{name}/{pattern}/{replacement}}}"
        check_size((len(value or "") + 1) * (len(replacement) + 1) if every else 0)
        return self._grown(replace(pattern, value or "", replacement, every=every))

    def _check_modifier_is_known_to_buildah(self) -> None:
        self.modern = True
        if self.dialect == "buildah":
            raise ContainerfileError(f"Missing ':' in substitution (/): {_KNOWN_TO_BUILDAH}")

    def _operand(self, stop: str, *, raw_escapes: bool, missing: str) -> str:
        try:
            return self.until(stop, raw_escapes=raw_escapes)
        except ContainerfileError:
            if self.position >= self.end:
                raise ContainerfileError(missing) from None
            raise

    def _name(self) -> str:
        """Read a variable's name: a word, digits, or one special parameter; empty if there is none."""
        match = _NAME.match(self.text, self.position)
        if match is None:
            return ""
        self.position = match.end()
        return match[0]

    def _lookup(self, name: str) -> str | None:
        value = self.env.get(name)
        (self.unset if value is None else self.used).add(name)
        return value

    def _value_of(self, name: str, written: str) -> str:
        value = self._lookup(name)
        if value is None:
            return written if self.keep_unset else self.unset_text
        return self._grown(value)

    def _grown(self, value: str) -> str:
        self.size += len(value)
        check_size(self.size)
        return value


#: Go's IsLetter and IsDigit: a word character of Python's that is no other kind of number.
_NAME = re.compile(rf"\d+|[{re.escape(_SPECIAL_PARAMETERS)}]|[^\W\d]\w*")
_PLAIN = {
    (escape, stop): re.compile(rf"[^$'\"<{re.escape(escape + stop)}]*")
    for escape in ("\\", "`")
    for stop in ("", "}", "/")
}
_PLAIN_IN_QUOTES = {escape: re.compile(rf"[^$\"{re.escape(escape)}]+") for escape in ("\\", "`")}


class _Splitter:
    """Collects words; blanks part them only where they are not quoted."""

    __slots__ = ("in_word", "pending", "words")

    def __init__(self, pending: list[str]) -> None:
        self.pending = pending
        self.words: list[str] = []
        self.in_word = False

    def add(self, piece: str, *, quoted: bool) -> None:
        if quoted:
            self.pending.append(piece)
            self.in_word = True
            return
        for blank_or_word in _BLANKS_OR_WORD.findall(piece):
            if not blank_or_word[0].isspace():
                self.pending.append(blank_or_word)
                self.in_word = True
            elif self.in_word:
                self.finish()

    def finish(self) -> list[str]:
        """End the word that is being collected, and give all words."""
        if word := "".join(self.pending):
            self.words.append(word)
            self.pending.clear()
            self.in_word = False
        return self.words


_BLANKS_OR_WORD = re.compile(r"\s+|\S+")
