"""What cannot be read is a problem with its place: never a crash, never silence."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from discovery.trees import AMD64, Chain, edges, ids, only_message, problems
from imagechain.config import Settings
from imagechain.discovery import DiscoveryError, walk
from imagechain.discovery.local import discover
from imagechain.discovery.walk import FILE_BYTES_MAX

FROM = "FROM scratch\n"


@pytest.mark.parametrize(
    ("content", "line", "part"),
    [
        ("", None, "starts with FROM"),
        ("FROM\n", 1, "FROM"),
        ("FROM scratch\n\nNONSENSE x\n", 3, "NONSENSE"),
        ("ARG A\nFROM ${A:?needed}\n", 2, "needed"),
        ("ARG REG\nFROM $REG/base:1\n", 2, "*/base:1"),
        ("FROM scratch\nCOPY --from=$X a b\n", 2, "variable"),
        (b"FROM scratch\nRUN \0\n", None, "binary"),
        (b"#" * (FILE_BYTES_MAX + 1), None, "larger than"),
        (b"\xff\xfe\xff", None, ""),
    ],
)
def test_a_file_that_is_refused_gives_a_problem_and_no_dependencies(
    chain: Chain, content: str | bytes, line: int | None, part: str
) -> None:
    chain.write({"bad/Dockerfile": content, "child/Dockerfile": "FROM localhost/bad\n"})
    found = chain.discover()
    assert [problem.file for problem in found.problems] == ["bad/Dockerfile"]
    assert line is None or found.problems[0].line == line
    assert part in only_message(found)
    assert found.projects["bad"].refused == found.problems[0]
    assert edges(found) == [("child", "bad", "from", 1)]


def test_an_unknown_target_is_a_problem_of_each_file_without_it(chain: Chain) -> None:
    chain.write({"a/Dockerfile": "FROM scratch AS Release\n", "b/Dockerfile": FROM})
    found = chain.discover(target="release")
    assert [problem.file for problem in found.problems] == ["b/Dockerfile"]
    assert "release" in only_message(found)


def test_an_empty_folder_is_a_problem_that_says_what_to_do(chain: Chain) -> None:
    found = chain.discover()
    assert (found.sources, found.dependencies, dict(found.projects)) == ((), (), {})
    assert "no Containerfile is here; add one" in only_message(found)


def test_a_folder_that_is_missing_or_none_is_an_error(chain: Chain) -> None:
    with pytest.raises(DiscoveryError, match="nowhere does not exist"):
        discover(chain.top / "nowhere", Settings(), platform=AMD64)
    chain.write({"file": ""})
    with pytest.raises(DiscoveryError, match="file is no folder"):
        discover(chain.top / "file", Settings(), platform=AMD64)


def test_links_to_files_of_the_tree_are_followed(chain: Chain) -> None:
    chain.write({"shared/base.txt": "FROM quay.io/x\n", "b/Containerfile": "FROM quay.io/y\n"})
    (chain.top / "a").mkdir()
    (chain.top / "a/Dockerfile").symlink_to("../shared/base.txt")
    (chain.top / "b/Dockerfile").symlink_to("Containerfile")
    found = chain.discover()
    assert edges(found) == [("a", "quay.io/x:latest", "from", 1), ("b", "quay.io/y:latest", "from", 1)]
    assert found.problems == ()


def test_links_out_of_the_tree_and_into_nothing_are_problems(chain: Chain) -> None:
    outside = chain.top.parent / "outside"
    Chain(outside).write({"Dockerfile": FROM})
    chain.write({"real/Dockerfile": FROM})
    for folder in ("a", "b", "c", "d"):
        (chain.top / folder).mkdir()
    (chain.top / "a/Dockerfile").symlink_to(outside / "Dockerfile")
    (chain.top / "b/Dockerfile").symlink_to("nothing")
    (chain.top / "c/Dockerfile").symlink_to("Dockerfile")
    (chain.top / "d/folder").symlink_to(outside)
    (chain.top / "d/README").symlink_to(outside / "Dockerfile")
    found = chain.discover()
    assert problems(found) == [
        (f"{place}", None) for place in ("a/Dockerfile", "b/Dockerfile", "c/Dockerfile", "d/folder")
    ]
    assert ["out of the tree" in problem.message for problem in found.problems] == [True, False, False, True]
    assert [one.id for one in found.projects.values() if one.refused is None] == ["real"]


def test_a_folder_whose_name_begins_like_the_top_is_outside(chain: Chain) -> None:
    Chain(chain.top.parent / "chain-other").write({"Dockerfile": FROM})
    chain.write({"a/x": ""})
    (chain.top / "a/Dockerfile").symlink_to(chain.top.parent / "chain-other/Dockerfile")
    assert ("a/Dockerfile", None) in problems(chain.discover())


def test_links_to_folders_are_not_followed(chain: Chain) -> None:
    chain.write({"a/Dockerfile": FROM})
    (chain.top / "b").symlink_to("a")
    (chain.top / "a/loop").symlink_to("..")
    found = chain.discover()
    assert ids(found) == ["a"]
    assert found.problems == ()


def test_a_link_that_may_not_be_read_is_a_problem_only_where_a_file_would_be(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    chain.write({"a/Dockerfile": FROM})
    (chain.top / "b").mkdir()
    (chain.top / "b/cwd").symlink_to("/")
    (chain.top / "b/Dockerfile").symlink_to("../a/Dockerfile")

    def refuse(path: str, **_: object) -> str:
        # As links of other people's processes in /proc, where not even root may read them in a container.
        if "/b/" in path:
            raise PermissionError(13, "Permission denied", path)
        return readlink(path)

    readlink = os.readlink
    monkeypatch.setattr("os.readlink", refuse)
    found = chain.discover()
    assert ids(found) == ["a"]
    assert [(one.file, one.message) for one in found.problems] == [
        ("b/Dockerfile", "the symbolic link cannot be read: Permission denied; it is left out")
    ]


def test_a_top_folder_that_is_a_link_is_the_folder_it_leads_to(chain: Chain) -> None:
    chain.write({"a/Dockerfile": FROM, "Dockerfile": FROM})
    link = chain.top.parent / "link"
    link.symlink_to(chain.top)
    found = Chain(link).discover()
    assert found.projects["."].images == ("localhost/chain:latest",)
    assert found.problems == ()


def test_a_pipe_called_dockerfile_is_a_problem_and_does_not_block(chain: Chain) -> None:
    chain.write({"a/x": ""})
    os.mkfifo(chain.top / "a/Dockerfile")
    assert "no regular file" in only_message(chain.discover())


def test_a_name_that_is_no_text_is_a_problem(chain: Chain) -> None:
    chain.write({"a/Dockerfile": FROM, "ü/Dockerfile": FROM})
    top = os.fsencode(chain.top)
    for folder in (b"latin-\xfc", b"x"):
        Path(os.fsdecode(top + b"/" + folder)).mkdir()
    for name in (b"latin-\xfc/Dockerfile", b"x/Dockerfile.\xfc", b"x/other-\xfc"):
        Path(os.fsdecode(top + b"/" + name)).write_text(FROM)
    found = chain.discover()
    assert ids(found) == ["a", "ü"]
    told = [problem.file for problem in found.problems if "no UTF-8" in problem.message]
    assert told == ["latin-\\xfc", "x/Dockerfile.\\xfc"]
    msgspec.json.encode(found.problems)


def test_a_tree_without_end_is_left_at_a_bound(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "FOLDERS_MAX", 3)
    chain.write({f"{name}/Dockerfile": FROM for name in "abcd"})
    found = chain.discover()
    assert ids(found) == ["a", "b"]
    assert "more than 3 folders" in only_message(found)


SCAN_AS_NOBODY = """
import os, sys
from pathlib import Path
from imagechain.config import Settings
from imagechain.discovery.local import discover
from imagechain.refs import Platform
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
found = discover(Path(sys.argv[1]), Settings(), platform=Platform("linux", "amd64"))
for problem in found.problems:
    print(problem.file, problem.message, sep=": ")
print(*found.projects)
"""


def test_what_one_has_no_permission_for_is_a_problem(tmp_path: Path) -> None:
    """In a process of its own: for root, as whom tests may run, everything is readable."""
    top = tmp_path / "chain"
    Chain(top).write({"a/Dockerfile": FROM, "b/Dockerfile": FROM, "c/Dockerfile": FROM})
    for folder in (tmp_path, *tmp_path.parents):
        if folder.owner() == top.owner() and folder != Path("/"):
            folder.chmod(folder.stat().st_mode | 0o055)
    (top / "a").chmod(0)
    (top / "b/Dockerfile").chmod(0)
    done = subprocess.run(
        [sys.executable, "-c", SCAN_AS_NOBODY, str(top)], capture_output=True, text=True, check=False
    )
    (top / "a").chmod(0o700)
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        "a: cannot look into the folder: Permission denied; its Containerfiles are missing here",
        "b/Dockerfile: cannot be read: Permission denied",
        "b c",
    ]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.binary(max_size=40)
        | st.sampled_from([b"FROM a\n", b"ARG A\n", b"FROM $A\n", b"COPY --from=x a b\n"])
    )
)
def test_any_file_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, parts: list[bytes]) -> None:
    top = tmp_path_factory.getbasetemp() / "any"
    for name in ("a/Dockerfile", "a/.gitlab-ci.yml", "a/.gitlab-deps", "a/.gitignore"):
        Chain(top).write({name: b"".join(parts)})
    found = Chain(top).discover()
    assert all(project.refused is None or not edges(found) for project in found.projects.values())
