"""Ignore rules, compared with git's own reading of them."""

import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from discovery.trees import Chain, ids
from imagechain.discovery.ignore import IgnoreRules
from imagechain.discovery.walk import walk

FROM = "FROM scratch\n"
FILES = ("a", "b.x", "d/a", "d/b.x", "d/e/a", "d/e/b.x", "e/a", "e/d/b.x", "d/e/f/a", "d/!", "e/#a", "f/[a")
_PIECES = ["a", "b", "d", "e", "f", "x", "*", "**", "/", "!", "?", ".", "[ab]", "[!a]", "[a-e]", "[]a]"]
_PIECES += ["[[:alpha:]]", "\\", "\\*", "#", " ", "**/", "/**", "/**/", "[", "[a", "\\ "]
_LINE = st.lists(st.sampled_from(_PIECES), min_size=1, max_size=5).map("".join)
_LINES = st.lists(_LINE, min_size=1, max_size=4)


@pytest.fixture(scope="module")
def repository() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder).resolve()
        subprocess.run(["git", "init", "-q", str(top)], check=True)
        for file in FILES:
            (top / file).parent.mkdir(parents=True, exist_ok=True)
            (top / file).touch()
        yield top


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(top=_LINES, inner=st.none() | _LINES, excluded=st.just([]) | _LINES)
def test_exactly_the_files_that_git_ignores_are_ignored(
    repository: Path, top: list[str], inner: list[str] | None, excluded: list[str]
) -> None:
    (repository / ".gitignore").write_text("\n".join(top) + "\n")
    (repository / "d/.gitignore").write_text("\n".join(inner or []))
    (repository / ".git/info/exclude").write_text("\n".join(excluded) + "\n")
    listed = subprocess.run(
        ["git", "-c", "core.excludesFile=", "ls-files", "-z", "--others", "--exclude-standard"],
        cwd=repository,
        check=True,
        capture_output=True,
        text=True,
    )
    tree = walk(str(repository), lambda _folder, _name: True)
    found = {f"{folder}/{name}".removeprefix("./") for folder, names in tree.files.items() for name in names}
    assert found == set(filter(None, listed.stdout.split("\0")))
    assert tree.problems == []


def test_ignored_folders_and_files_are_no_projects(chain: Chain) -> None:
    chain.write(
        {
            ".gitignore": "node_modules/\n/out\n*.bak/\n!keep.bak/\n",
            "a/.gitignore": "Dockerfile.tmp\n!/out\n",
            "a/Dockerfile": FROM,
            "a/Dockerfile.tmp": FROM,
            "a/node_modules/x/Dockerfile": FROM,
            "a/out/Dockerfile": FROM,
            "out/Dockerfile": FROM,
            "x.bak/Dockerfile": FROM,
            "keep.bak/Dockerfile": FROM,
            ".git/Dockerfile": FROM,
            "b/.git/modules/Dockerfile": FROM,
        }
    )
    assert ids(chain.discover()) == ["a", "a/out", "keep.bak"]


def test_the_rules_of_the_repository_around_the_top_folder_count(chain: Chain) -> None:
    chain.write({"repo/.gitignore": "skip/\n/images/out\n", "repo/.git/info/exclude": "/images/mine\n"})
    for name in ("skip", "out", "mine", "kept"):
        chain.write({f"repo/images/{name}/Dockerfile": FROM})
    assert ids(Chain(chain.top / "repo/images").discover()) == ["kept"]


def test_a_top_folder_that_its_repository_ignores_is_scanned_all_the_same(chain: Chain) -> None:
    chain.write({"repo/.gitignore": "*\n", "repo/.git/HEAD": "", "repo/images/a/Dockerfile": FROM})
    assert ids(Chain(chain.top / "repo/images").discover()) == ["a"]


@given(
    st.text(alphabet="ab/*?[]!^-\\# :\r.", max_size=12),
    st.text(alphabet="ab/.", min_size=1, max_size=6),
    st.booleans(),
)
def test_any_pattern_is_decided(pattern: str, path: str, is_folder: bool) -> None:
    assert IgnoreRules(pattern).decide(path, is_folder=is_folder) in {True, False, None}
