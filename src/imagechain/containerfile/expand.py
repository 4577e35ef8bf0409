"""Expansion of variables in one word, as BuildKit's shell lexer does it (`shell/lex.go`).

`$x ${x} ${x-w} ${x:-w} ${x+w} ${x:+w} ${x?m} ${x:?m} ${x#p} ${x##p} ${x%p} ${x%%p} ${x/p/r} ${x//p/r}`,
nested, with single quotes, double quotes and the file's escape character. Words that need none of it are
returned as they are; words of plain variables are expanded by one regular expression; the rest is lexed.
"""

import re
from collections.abc import Mapping

import msgspec

from imagechain.containerfile.lexer import Lexer, Syntax, check_size
from imagechain.containerfile.values import ContainerfileError

_NO_NAMES: frozenset[str] = frozenset()
_SPECIAL = {escape: re.compile(rf"[$'\"{re.escape(escape)}]") for escape in "\\`"}
_QUOTE_OR_ESCAPE = {escape: re.compile(rf"['\"{re.escape(escape)}]") for escape in "\\`"}
_VARIABLE = re.compile(r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)\})")


class Expansion(msgspec.Struct, frozen=True, gc=False):
    """What a word expands to, and the names that this depends on."""

    text: str
    #: Names that have a value.
    used: frozenset[str] = _NO_NAMES
    #: Names that have none.
    unset: frozenset[str] = _NO_NAMES
    #: Whether it has a form that buildah before 1.44 does not know.
    modern: bool = False


def expand(
    word: str,
    env: Mapping[str, str],
    syntax: Syntax,
    *,
    open_world: bool = False,
    unset_text: str = "",
    quotes: bool = True,
) -> Expansion:
    """Expand the variables of a word and remove its quotes.

    Args:
        word: The word as written.
        env: The variables that are set.
        syntax: How the file is to be read.
        open_world: A name that is not in `env` may be set elsewhere (by the base image), so that `${x?}`
            of it is no error.
        unset_text: What a plain variable without a value gives; `*` makes a pattern of the word.
        quotes: Whether quotes are special; in the text of a heredoc they are not.

    Raises:
        ContainerfileError: the word is malformed, or says that a variable must be set.
    """
    if not _SPECIAL[syntax.escape].search(word):
        return Expansion(word)
    plain = word[1:-1] if quotes and len(word) > 1 and word[0] == word[-1] == '"' else word
    if plain.isascii() and not _QUOTE_OR_ESCAPE[syntax.escape].search(plain):
        literals_and_names = _VARIABLE.split(plain)
        if not any("$" in literal for literal in literals_and_names[::3]):
            return _expand_plain(literals_and_names, env, unset_text)
    lexer = Lexer(word, env, syntax, open_world=open_world, unset_text=unset_text, quotes=quotes)
    try:
        text = lexer.until("", raw_escapes=False)
    except ContainerfileError as error:
        raise ContainerfileError(f"failed to process {word!r}: {error.message}") from None
    return Expansion(text, frozenset(lexer.used), frozenset(lexer.unset), lexer.modern)


def _expand_plain(literals_and_names: list[str], env: Mapping[str, str], unset_text: str) -> Expansion:
    """Join the pieces of `_VARIABLE.split`: literal, `$name`, `${name}`, literal, and so on."""
    pieces = [literals_and_names[0]]
    used, unset = set(), set()
    size = 0
    for position in range(1, len(literals_and_names), 3):
        name = literals_and_names[position] or literals_and_names[position + 1]
        value = env.get(name)
        if value is None:
            unset.add(name)
            value = unset_text
        else:
            used.add(name)
        size += len(value)
        check_size(size)
        pieces += (value, literals_and_names[position + 2])
    return Expansion("".join(pieces), frozenset(used), frozenset(unset))
