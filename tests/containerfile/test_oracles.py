"""The same files read by BuildKit's own Go parser, and the same words by a port of its lexer.

Known differences, left out below. `dockerfile` 3.4 has the parser of an older BuildKit: `# check=` is no
directive to it, only the backslash escapes in flags, no blank may stand between `<<` and a name. It splits
ONBUILD further, and `e2b-dockerfile-utils` 0.1 drops its words: only the lexer of the latter is asked.
BuildKit reads flags byte by byte, so that other characters than ASCII's come out garbled there.
"""

from typing import NamedTuple

import dockerfile
import pytest
from e2b_dockerfile_utils import ShellLex
from hypothesis import example, given, settings
from hypothesis import strategies as st

from containerfile.soup import environments, files, sensible_files, words
from imagechain.containerfile.expand import expand
from imagechain.containerfile.instructions import parse_instruction
from imagechain.containerfile.lexer import Syntax
from imagechain.containerfile.lines import decode, split_instructions
from imagechain.containerfile.values import ContainerfileError


class Split(NamedTuple):
    keyword: str
    line: int
    flags: tuple[str, ...]
    heredocs: tuple[str, ...]


def split_by_buildkit(text: str) -> list[Split] | None:
    try:
        commands = dockerfile.parse_string(text)
    except dockerfile.GoParseError:
        return None
    return [
        Split(
            (command.cmd or "").upper(),
            command.start_line,
            command.flags,
            tuple(h.content.replace("\r\n", "\n") for h in command.heredocs),
        )
        for command in commands
    ]


def split_by_us(text: str) -> list[Split] | None:
    """Split, and refuse what BuildKit's parser refuses: later checks are no business of it."""
    try:
        source = split_instructions(decode(text))
    except ContainerfileError:
        return None
    syntax = Syntax(source.escape)
    for instruction in source.instructions:
        try:
            parse_instruction(instruction, syntax)
        except ContainerfileError as error:
            if any(
                said in error.message for said in ("strings only", "must have two arguments", "can't find =")
            ):
                return None
    return [
        Split(i.keyword, i.line, tuple(i.flags), tuple(h.text for h in i.heredocs))
        for i in source.instructions
    ]


@given(st.one_of(files, sensible_files))
@settings(max_examples=600, deadline=None)
@example('FROM a\nRUN --mount=type=bind,from="b c" x')
@example("FROM a\r\nRUN <<E \\\r\n  y\r\nFROM x\r\nE\r\n")
def test_instructions_flags_lines_and_heredocs_are_those_of_buildkits_parser(text: str) -> None:
    lowered = text.lower().replace(" ", "")
    has_flags = "--" in text
    if has_flags and ("#escape=`" in lowered or not text.isascii()):
        return
    if "onbuild" in lowered or "#check=" in lowered:
        return
    assert split_by_us(text) == split_by_buildkit(text)


@given(words, environments, st.sampled_from(("\\", "`")))
@settings(max_examples=1500, deadline=None)
def test_words_expand_as_in_a_port_of_buildkits_lexer(word: str, env: dict[str, str], escape: str) -> None:
    try:
        expected: str | None = ShellLex(escape, env=env, skip_unset_env=False).process_word(word)
    except ValueError:
        expected = None
    if expected is None:
        with pytest.raises(ContainerfileError):
            expand(word, env, Syntax(escape))
    else:
        assert expand(word, env, Syntax(escape)).text == expected
