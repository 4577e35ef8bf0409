"""Vectors of our own for the substitutions; the variables that they use are those of `ENV`."""

import pytest

from imagechain.containerfile.expand import expand
from imagechain.containerfile.lexer import NESTING_DEPTH_MAX, Syntax
from imagechain.containerfile.values import ContainerfileError

ENV = {"X": "ab", "E": "", "V": "v1.2.3-rc1-dev", "P": "a/b/c.txt", "S": "a*b", "_x1": "u", "ÄÖ": "umlaut"}

VECTORS = {
    # nothing to do
    "": "",
    "a": "a",
    "a b": "a b",
    "a$": "a$",
    "$": "$",
    "a$/b": "a$/b",
    "$.": "$.",
    "a:b@c": "a:b@c",
    # names
    "$X": "ab",
    "${X}": "ab",
    "a$X": "aab",
    "$X.": "ab.",
    "$X$X": "abab",
    "$X${X}": "abab",
    "$XY": "",
    "${X}Y": "abY",
    "$_x1": "u",
    "$_x1-": "u-",
    "${_x1}": "u",
    "$N": "",
    "${N}": "",
    "a${N}b": "ab",
    "$1": "",
    "$12x": "x",
    "$1X": "X",
    "$@": "",
    "$*x": "x",
    "$#": "",
    "$?": "",
    "$-": "",
    "$!": "",
    "$0": "",
    "$$X": "X",
    "${@}": "",
    "$ÄÖ": "umlaut",
    "${ÄÖ}": "umlaut",
    "$é": "",
    # defaults
    "${X:-d}": "ab",
    "${X-d}": "ab",
    "${E:-d}": "d",
    "${E-d}": "",
    "${N:-d}": "d",
    "${N-d}": "d",
    "${N:-}": "",
    "${N-}": "",
    "${N:-$X}": "ab",
    "${N:-${E:-${X}}}": "ab",
    "${N:-a b}": "a b",
    "${N:-'$X'}": "$X",
    '${N:-"$X"}': "ab",
    "${N:-\\}}": "}",
    "${N:-a/b}": "a/b",
    "${N:-:}": ":",
    "x${N:-y}z": "xyz",
    # alternatives
    "${X:+d}": "d",
    "${X+d}": "d",
    "${E:+d}": "",
    "${E+d}": "d",
    "${N:+d}": "",
    "${N+d}": "",
    "${X:+$X}": "ab",
    "${X:+-${X}}": "-ab",
    "${X:+}": "",
    # demands
    "${X:?m}": "ab",
    "${X?m}": "ab",
    "${E?m}": "",
    "${X:?}": "ab",
    # prefixes
    "${V#v}": "1.2.3-rc1-dev",
    "${V#*.}": "2.3-rc1-dev",
    "${V##*.}": "3-rc1-dev",
    "${V#x}": "v1.2.3-rc1-dev",
    "${V#}": "v1.2.3-rc1-dev",
    "${V##}": "v1.2.3-rc1-dev",
    "${V#?}": "1.2.3-rc1-dev",
    "${V#??.}": "2.3-rc1-dev",
    "${V##*}": "",
    "${V#*}": "v1.2.3-rc1-dev",
    "${V##*-}": "dev",
    "${V#*-}": "rc1-dev",
    "${V#*.*.}": "3-rc1-dev",
    "${V##*c*d}": "ev",
    "${E#a}": "",
    "${N#a}": "",
    "${P#*/}": "b/c.txt",
    "${P##*/}": "c.txt",
    "${S#a\\*}": "b",
    "${S#a*}": "*b",
    "${S##a*}": "",
    "${V#$N}": "v1.2.3-rc1-dev",
    "${X#$X}": "",
    "${V#'v'}": "1.2.3-rc1-dev",
    "${V#[v]}": "v1.2.3-rc1-dev",
    "${V#.}": "v1.2.3-rc1-dev",
    # suffixes
    "${V%-*}": "v1.2.3-rc1",
    "${V%%-*}": "v1.2.3",
    "${V%.*}": "v1.2",
    "${V%%.*}": "v1",
    "${V%dev}": "v1.2.3-rc1-",
    "${V%x}": "v1.2.3-rc1-dev",
    "${V%}": "v1.2.3-rc1-dev",
    "${V%%}": "v1.2.3-rc1-dev",
    "${V%?}": "v1.2.3-rc1-de",
    "${V%%*}": "",
    "${P%/*}": "a/b",
    "${P%%/*}": "a",
    "${P%.txt}": "a/b/c",
    "${S%\\*b}": "a",
    "${S%\\*}": "a*b",
    # replacements
    "${X/a/c}": "cb",
    "${X//b/c}": "ac",
    "${P/\\//-}": "a-b/c.txt",
    "${P//\\//-}": "a-b-c.txt",
    "${V//./_}": "v1_2_3-rc1-dev",
    "${V/./}": "v12.3-rc1-dev",
    "${V/-*/}": "v1.2.3",
    "${V/x/y}": "v1.2.3-rc1-dev",
    "${X/b/${E}}": "a",
    "${X//?/-}": "--",
    "${X/*/z}": "z",
    "${X//*/z}": "z",
    "${X//a*b/z}": "z",
    "${N/a/b}": "",
    "${E//a/b}": "",
    "${S/\\*/-}": "a-b",
    "${X//a/$0}": "b",
    "${V//rc?/$X}": "v1.2.3-ab-dev",
    "${X/b*b/z}": "ab",
    # quotes and escapes
    "'$X'": "$X",
    '"$X"': "ab",
    '"a b"': "a b",
    "'a'b\"c\"": "abc",
    "''": "",
    '""': "",
    "\\$X": "$X",
    "\\a": "a",
    "a\\": "a",
    "\\\\": "\\",
    '"\\$X"': "$X",
    '"\\a"': "\\a",
    '"\\""': '"',
    "'\\'": "\\",
    "\"'$X'\"": "'ab'",
    "'\"$X\"'": '"$X"',
    '"${N:-d}"': "d",
    "a'b'$X": "abab",
    '"\\\\"': "\\",
    "${X:-'}'}": "ab",
    "${N:-'}'}": "}",
}

ERRORS = {
    "${": "missing '}'",
    "${}": "bad substitution",
    "${:x}": "bad substitution",
    "${{X}}": "bad substitution",
    "${X": "unsupported modifier",
    "${X:-a": "missing '}'",
    "${X:": "missing '}'",
    "${X:=a}": "unsupported modifier (:=)",
    "${X=a}": "unsupported modifier (=)",
    "${X:#a}": "unsupported modifier (:#)",
    "${X:%a}": "unsupported modifier (:%)",
    "${X^}": "unsupported modifier (^)",
    "${X,,}": "unsupported modifier (,)",
    "${X:1}": "unsupported modifier (:1)",
    "${X:1:2}": "unsupported modifier (:1)",
    "${X[0]}": "unsupported modifier ([)",
    "${!X}": "unsupported modifier (X)",
    "${N:?}": "N: is not allowed to be unset",
    "${N?}": "N: is not allowed to be unset",
    "${N:?need it}": "N: need it",
    "${E:?}": "E: is not allowed to be empty",
    "${E:?$X}": "E: ab",
    "${X/a}": "missing '/' in ${}",
    "${X/a/b": "missing '}'",
    "'a": "single-quote",
    '"a': "double-quote",
    "${N:-'a}": "missing '}'",
    "${X#\\a}": "invalid escape",
    "${X/\\a/}": "invalid escape",
}


@pytest.mark.parametrize(("word", "expected"), VECTORS.items())
def test_a_word_expands_to(word: str, expected: str) -> None:
    assert expand(word, ENV, Syntax()).text == expected


@pytest.mark.parametrize(("word", "message"), ERRORS.items())
def test_a_malformed_word_is_refused(word: str, message: str) -> None:
    with pytest.raises(ContainerfileError) as caught:
        expand(word, ENV, Syntax())
    assert message in caught.value.message


@pytest.mark.parametrize(
    ("word", "expected"), {"`$X": "$X", "\\$X": "\\ab", '"`""': '"', "a`": "a", "C:\\$X": "C:\\ab"}.items()
)
def test_the_backtick_escapes_where_the_file_says_so(word: str, expected: str) -> None:
    assert expand(word, ENV, Syntax(escape="`")).text == expected


def test_names_with_and_without_a_value_are_told() -> None:
    expansion = expand("$X/${N:-$E}/${V#v}/$M", ENV, Syntax())
    assert expansion.used == {"X", "E", "V"}
    assert expansion.unset == {"N", "M"}


def test_plain_variables_without_a_value_make_a_pattern() -> None:
    assert expand("$REG/base-${N:-x}:${TAG}", ENV, Syntax(), unset_text="*").text == "*/base-x:*"
    assert expand('"$REG/${N:-x}"', ENV, Syntax(), unset_text="*").text == "*/x"


def test_a_name_that_the_base_image_may_set_is_not_demanded() -> None:
    assert expand("a${N:?}", ENV, Syntax(), open_world=True).text == "a"
    with pytest.raises(ContainerfileError, match="not allowed to be empty"):
        expand("${E:?}", ENV, Syntax(), open_world=True)


@pytest.mark.parametrize("word", ["$X", "'a b'", "${X:-d}", "${N:-${X:-}}", "${X:+d}"])
def test_buildah_knows_the_plain_substitutions(word: str) -> None:
    assert expand(word, ENV, Syntax(dialect="buildah")).text == expand(word, ENV, Syntax()).text


@pytest.mark.parametrize(
    ("word", "message"),
    {
        "${X-d}": "Missing ':' in substitution",
        "${X#a}": "Missing ':' in substitution",
        "${X/a/b}": "Missing ':' in substitution",
        "${X:?m}": "Unsupported modifier (?) in substitution",
    }.items(),
)
def test_buildah_refuses_the_others(word: str, message: str) -> None:
    with pytest.raises(ContainerfileError) as caught:
        expand(word, ENV, Syntax(dialect="buildah"))
    assert message in caught.value.message
    assert expand(word, ENV, Syntax()).modern


@pytest.mark.parametrize("word", ["$A" * 30_000, "${A//x/$A}", "${N:-$A$A}"])
def test_growth_is_bounded(word: str) -> None:
    with pytest.raises(ContainerfileError, match="expands to more than"):
        expand(word, {"A": "x" * 60_000}, Syntax())


def test_nesting_is_bounded() -> None:
    deep = "${N:-" * NESTING_DEPTH_MAX + "}" * NESTING_DEPTH_MAX
    with pytest.raises(ContainerfileError, match="nested deeper"):
        expand(deep, {}, Syntax())
    assert expand("${N:-" * 40 + "x" + "}" * 40, {}, Syntax()).text == "x"


@pytest.mark.parametrize(
    "word", ["${A#*x*x*x*x*x*y}", "${A%y*x*x*x*x*x*}", "${A//x*x*x*x*y/}", "${A/*x*x*y/}"]
)
def test_no_pattern_takes_more_than_linear_time(word: str) -> None:
    """A backtracking match would take years for this; the test would never end."""
    text = "x" * 20_000
    assert expand(word, {"A": text}, Syntax()).text == text
