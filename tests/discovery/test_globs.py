"""Globs of `imagechain.toml`."""

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagechain.discovery.globs import Glob, compile_glob


def matches_naively(pattern: list[str], path: list[str]) -> bool:
    """Compare component by component; `**` is any number of components, the last one at least one."""
    if not pattern:
        return not path
    if pattern[0] == "**":
        if len(pattern) == 1:
            return bool(path)
        return any(matches_naively(pattern[1:], path[skip:]) for skip in range(len(path) + 1))
    return bool(path) and fnmatch.fnmatchcase(path[0], pattern[0]) and matches_naively(pattern[1:], path[1:])


_COMPONENTS = st.sampled_from(["a", "b", "ab", "*", "a*", "*b", "?", "**", "a.b"])
_NAMES = st.sampled_from(["a", "b", "ab", "ba", "a.b", "axb", "abb"])


@given(st.lists(_COMPONENTS, min_size=1, max_size=4), st.lists(_NAMES, min_size=1, max_size=5))
def test_globs_agree_with_a_comparison_of_components(pattern: list[str], path: list[str]) -> None:
    found = compile_glob("/".join(pattern)).fullmatch("/".join(path)) is not None
    assert found == matches_naively(pattern, path)


@given(st.text(max_size=15), st.text(max_size=15))
def test_any_text_is_a_glob_and_one_without_wildcards_matches_itself(text: str, other: str) -> None:
    plain = text.replace("*", "").replace("?", "")
    assert compile_glob(plain).fullmatch(plain)
    assert (compile_glob(plain).fullmatch(other) is not None) == (plain == other)
    compile_glob(text).fullmatch(other)


@pytest.mark.parametrize(
    ("key", "folder", "file", "expected"),
    [
        ("images/*", "images/a", "images/a/Dockerfile", True),
        ("images/*", "images/a/b", "images/a/b/Dockerfile", False),
        ("images/*", "images", "images/Dockerfile", False),
        ("images/**", "images/a/b", "images/a/b/Dockerfile", True),
        ("images/**", "images", "images/Dockerfile", False),
        ("**/web", "web", "web/Dockerfile", True),
        ("**/web", "a/b/web", "a/b/web/Dockerfile", True),
        ("a/**/web", "a/web", "a/web/Dockerfile", True),
        ("a/Dockerfile.*", "a", "a/Dockerfile.web", True),
        ("a/Dockerfile.*", "a", "a/Dockerfile", False),
        ("**/*.Dockerfile", "a/b", "a/b/x.Dockerfile", True),
        ("*.Dockerfile", ".", "x.Dockerfile", True),
        ("./a/", "a", "a/Dockerfile", True),
        (".", ".", "Dockerfile", True),
        ("*", ".", "Dockerfile", False),
        ("?", ".", "Dockerfile", False),
        ("**", ".", "Dockerfile", True),
        ("**", "a", "a/Dockerfile", True),
        ("A", "a", "a/Dockerfile", False),
    ],
)
def test_keys_name_folders_or_containerfiles(key: str, folder: str, file: str, expected: bool) -> None:
    assert Glob(key).matches(folder, file) is expected
