"""Which tags are mirrored: names, globs, expressions, ranges, the newest; against naive readings of them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagechain.mirror.select import PatternError, compile_pattern, is_name, select

TAGS = (
    *("latest", "16", "16.1", "16.10", "16.9", "17", "17.2", "v18", "15.0"),
    *("16-alpine", "17-alpine", "17-rc1", "bookworm", "20260101T000000Z", "1.2.3.4", "1.2.3.4.5"),
)


@pytest.mark.parametrize(
    ("patterns", "selected"),
    [
        (["16"], ["16"]),
        (["17*"], ["17", "17-alpine", "17-rc1", "17.2"]),
        (["1[67]-alpine"], ["16-alpine", "17-alpine"]),
        (["/^1[67]-alpine$/"], ["16-alpine", "17-alpine"]),
        ([">=16 <18"], ["16", "16.1", "16.10", "16.9", "17", "17.2"]),
        ([">=16, <17"], ["16", "16.1", "16.10", "16.9"]),
        ([">= 17"], ["17", "17.2", "v18"]),
        (["<=16.1 >1"], ["15.0", "16", "16.1"]),
        (["~16.9"], ["16.9"]),
        (["~16"], ["16", "16.1", "16.10", "16.9"]),
        (["^16.9"], ["16.10", "16.9"]),
        (["<2 || >=18"], ["1.2.3.4", "v18"]),
        (["=16.1 || >17"], ["16.1", "v18"]),
        (["=16 !=16.9 !=16.10"], ["16", "16.1"]),
        (["*"], sorted(TAGS)),
        (["bookworm", "latest"], ["bookworm", "latest"]),
    ],
)
def test_patterns_take_what_they_say(patterns: list[str], selected: list[str]) -> None:
    assert list(select(patterns, [], 0, TAGS)) == selected


def test_what_is_denied_is_left_out_even_by_name() -> None:
    assert select(["17*", "16"], ["*-rc*", "16"], 0, TAGS) == ("17", "17-alpine", "17.2")


def test_a_name_is_selected_though_no_list_has_it() -> None:
    assert select(["gone"], [], 0, TAGS) == ("gone",)


def test_the_newest_are_counted_among_versions_of_one_form() -> None:
    tags = ["16.1", "16.10", "16.9", "15.2", "16.1-alpine", "16.2-alpine", "9", "10", "11", "latest"]
    assert select(["*"], [], 2, tags) == tuple(
        sorted(["16.10", "16.9", "16.1-alpine", "16.2-alpine", "10", "11", "latest"])
    )


def test_what_is_named_does_not_count_among_the_newest() -> None:
    assert select(["9", "*"], [], 1, ["9", "10", "11"]) == ("11", "9")


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("/(/", "no regular expression"),
        (">=x", "no range of versions"),
        (">=1 <", "no range of versions"),
        (">=1 ||", "empty alternative"),
        ("a b", "no pattern of tags"),
        ("", "no pattern of tags"),
        ("x" * 1001, "more than 1000"),
    ],
)
def test_what_is_no_pattern_is_refused(pattern: str, message: str) -> None:
    with pytest.raises(PatternError, match=message):
        compile_pattern(pattern)


@pytest.mark.parametrize(
    ("pattern", "name"), [("16", True), ("v1.2-x_y", True), ("17*", False), ("/a/", False)]
)
def test_only_names_need_no_list_of_tags(pattern: str, name: bool) -> None:
    assert is_name(pattern) == name


versions = st.lists(st.integers(0, 30), min_size=1, max_size=4)


@given(versions, versions, st.sampled_from([">=", "<=", ">", "<", "=", "!="]))
def test_comparisons_agree_with_a_naive_reading(version: list[int], bound: list[int], operator: str) -> None:
    text = ".".join(map(str, bound))
    takes = compile_pattern(f"{operator}{text}")
    shown = [*version, 0, 0, 0, 0][: len(bound)]
    expected = {
        ">=": shown >= bound,
        "<=": shown <= bound,
        ">": shown > bound,
        "<": shown < bound,
        "=": shown == bound,
        "!=": shown != bound,
    }[operator]
    assert takes(".".join(map(str, version))) == expected


@given(versions, versions)
def test_tilde_and_caret_take_nothing_below_their_bound(version: list[int], bound: list[int]) -> None:
    tag, text = ".".join(map(str, version)), ".".join(map(str, bound))
    for operator in "~^":
        if compile_pattern(f"{operator}{text}")(tag):
            assert compile_pattern(f">={text}")(tag)
    # A caret never takes another first number that is not 0.
    if bound[0] and compile_pattern(f"^{text}")(tag):
        assert version[0] == bound[0]


@given(st.lists(st.sampled_from(TAGS), unique=True), st.integers(0, 3), st.sampled_from(["*", "1*", "/a/"]))
def test_selecting_is_a_subset_without_order(tags: list[str], newest: int, pattern: str) -> None:
    selected = select([pattern], [], newest, tags)
    assert set(selected) <= set(tags)
    assert selected == select([pattern], [], newest, reversed(tags))
    assert set(selected) <= set(select([pattern], [], 0, tags))


@given(st.text(max_size=30) | st.from_regex(r"[<>=!~^]{1,2} ?[0-9.|, ]{0,9}", fullmatch=True))
def test_a_text_is_a_pattern_or_refused_as_none(text: str) -> None:
    try:
        takes = compile_pattern(text)
    except PatternError:
        return
    assert takes("1.0") in {True, False}
