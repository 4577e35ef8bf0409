"""Worlds made from folders, and commits written out again."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagechain.testing import SimulationError
from imagechain.testing.git import make_file
from imagechain.testing.world import load_projects, write_commit
from testing.gitlab_world import CI, World

EXAMPLES = Path(__file__).parents[2] / "examples" / "chain"


def test_each_folder_becomes_a_project_with_its_files_and_modes(tmp_path: Path) -> None:
    world = World()
    projects = load_projects(world.gitlab, EXAMPLES, "demo", extra_files={".gitlab-ci.yml": CI})
    assert [project.path for project in projects] == sorted(p.name for p in EXAMPLES.iterdir() if p.is_dir())
    base = world.gitlab.project("demo/base").head
    assert base is not None
    write_commit(base, tmp_path)
    assert (tmp_path / "Containerfile").read_bytes() == (EXAMPLES / "base/Containerfile").read_bytes()
    assert (tmp_path / "apt-install").stat().st_mode & 0o100
    assert (tmp_path / ".gitlab-ci.yml").read_text() == CI
    assert world.base.pipelines == {}


def test_texts_are_replaced_but_not_in_binary_files(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p/text").write_text("FROM old/x")
    (tmp_path / "p/binary").write_bytes(b"\0old")
    [project] = load_projects(World().gitlab, tmp_path, "demo", substitute={"old": "new"})
    assert project.head is not None
    contents = {path: file.content for path, file in project.head.files.items()}
    assert contents == {"text": b"FROM new/x", "binary": b"\0old"}


def test_a_project_keeps_its_own_ci_configuration(tmp_path: Path) -> None:
    (tmp_path / "p").mkdir()
    (tmp_path / "p/.gitlab-ci.yml").write_text("own: {script: a}")
    [project] = load_projects(World().gitlab, tmp_path, "demo", extra_files={".gitlab-ci.yml": CI})
    assert project.head is not None
    assert project.head.files[".gitlab-ci.yml"].content == b"own: {script: a}"


def test_a_commit_never_writes_outside_its_folder(tmp_path: Path) -> None:
    world = World()
    commit = world.gitlab.repositories.commit(world.base, None, {"../out": make_file(b"x")}, "m", world.bot)
    (tmp_path / "in").mkdir()
    with pytest.raises(SimulationError, match="leads out of"):
        write_commit(commit, tmp_path / "in")
    assert not (tmp_path / "out").exists()


@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["a", "b/c", "b/d", "e"]), st.one_of(st.none(), st.text(max_size=3)), max_size=3
        ),
        max_size=8,
    )
)
def test_pushes_add_up_as_a_dictionary_does(changes: list[dict[str, str | None]]) -> None:
    world = World()
    model = {
        path: file.content for path, file in world.base.commits[world.base.branches["main"]].files.items()
    }
    for change in changes:
        kept = {path: text for path, text in change.items() if text is not None or path in model}
        world.gitlab.push("images/base", kept)
        for path, text in kept.items():
            if text is None:
                del model[path]
            else:
                model[path] = text.encode()
    head = world.base.head
    assert head is not None
    assert {path: file.content for path, file in head.files.items()} == model
    assert len(world.base.commits) <= len(changes) + 1
