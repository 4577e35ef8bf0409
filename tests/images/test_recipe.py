import os
import socket
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from imagechain.images import RecipeError, read_recipe
from imagechain.images.recipe import find_ignore_file


@pytest.fixture
def context(tmp_path: Path) -> Path:
    for name in ("Containerfile", "a.txt", "sub/b.txt", "sub/deep/c.txt", "other/d.txt"):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
        file.chmod(0o644)
    return tmp_path


def recipe(
    context: Path,
    *,
    sources: tuple[str, ...] | None = None,
    text: bytes = b"FROM scratch\n",
    build_args: dict[str, str] | None = None,
) -> str:
    return read_recipe(
        text=text,
        build_args=build_args or {},
        context=context,
        containerfile=context / "Containerfile",
        sources=sources,
    ).hash


CHANGES: dict[str, Callable[[Path], object]] = {
    "content": lambda context: (context / "sub/b.txt").write_text("changed"),
    "a new file": lambda context: (context / "sub/new.txt").write_text(""),
    "a new empty folder": lambda context: (context / "sub/new").mkdir(),
    "a removed file": lambda context: (context / "sub/b.txt").unlink(),
    "a renamed file": lambda context: (context / "sub/b.txt").rename(context / "sub/e.txt"),
    "permission bits": lambda context: (context / "sub/b.txt").chmod(0o755),
    "a link's target": lambda context: (context / "sub/link").symlink_to("b.txt"),
}


@pytest.mark.parametrize("sources", [None, ("sub",), (".",), ("/sub/",), ("s*",), ("sub/*",)])
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_that_the_build_can_notice_changes_the_hash(
    context: Path, change: str, sources: tuple[str, ...] | None
) -> None:
    before = recipe(context, sources=sources)
    CHANGES[change](context)
    assert recipe(context, sources=sources) != before


@pytest.mark.parametrize("sources", [("a.txt",), ("other/d.txt", "a.txt"), ("other",), ("*.txt",), ()])
@pytest.mark.parametrize("change", CHANGES)
def test_a_change_of_what_is_not_copied_keeps_the_hash(
    context: Path, change: str, sources: tuple[str, ...]
) -> None:
    before = recipe(context, sources=sources)
    CHANGES[change](context)
    assert recipe(context, sources=sources) == before


def test_times_and_the_place_of_the_context_do_not_count(
    context: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    before = recipe(context)
    os.utime(context / "a.txt", (1, 1))
    moved = context.rename(tmp_path_factory.mktemp("elsewhere") / "context")
    assert recipe(moved) == before


def test_the_containerfile_and_the_build_arguments_count(context: Path) -> None:
    hashes = {
        recipe(context, sources=()),
        recipe(context, sources=(), text=b"FROM scratch\nLABEL a=b\n"),
        recipe(context, sources=(), build_args={"A": "1"}),
        recipe(context, sources=(), build_args={"A": "2"}),
        recipe(context, sources=(), build_args={"A": "1", "B": "2"}),
    }
    assert len(hashes) == 5
    assert recipe(context, build_args={"A": "1", "B": "2"}) == recipe(
        context, build_args={"B": "2", "A": "1"}
    )


def test_ignored_files_do_not_count(context: Path) -> None:
    (context / ".dockerignore").write_text("sub\n!sub/deep\n")
    before = recipe(context)
    (context / "sub/b.txt").write_text("changed")
    assert recipe(context) == before
    (context / "sub/deep/c.txt").write_text("changed")
    assert recipe(context) != before


def test_the_ignore_file_beside_the_containerfile_comes_first_then_that_of_podman(context: Path) -> None:
    containerfile = context / "Containerfile"
    assert find_ignore_file(context, containerfile) is None
    for name in (
        ".dockerignore",
        ".containerignore",
        "Containerfile.containerignore",
        "Containerfile.dockerignore",
    ):
        (context / name).touch()
        assert find_ignore_file(context, containerfile) == context / name


def test_a_copy_through_a_link_makes_all_files_count(context: Path) -> None:
    (context / "link").symlink_to("sub")
    before = recipe(context, sources=("link/b.txt",))
    (context / "sub/b.txt").write_text("changed")
    assert recipe(context, sources=("link/b.txt",)) != before


def test_a_link_out_of_the_context_is_not_followed(
    context: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (context / "sub/link").symlink_to(outside)
    before = recipe(context)
    (outside / "file").write_text("new")
    assert recipe(context) == before


def test_a_loop_of_links_and_names_that_are_no_text_are_read(context: Path) -> None:
    (context / "loop").symlink_to("loop")
    (context / os.fsdecode(b"\xff\xfe")).write_text("")
    assert recipe(context) == recipe(context)


def test_pipes_and_sockets_are_not_opened(context: Path) -> None:
    os.mkfifo(context / "pipe")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(context / "s"))
        assert recipe(context) == recipe(context)


def test_a_file_that_cannot_be_read_is_named() -> None:
    with tempfile.TemporaryDirectory() as name:
        context = Path(name)
        (context / "Containerfile").touch()
        (context / "a.txt").touch(mode=0)
        context.chmod(0o755)
        user = os.geteuid()
        os.seteuid(user or 65534)
        try:
            with pytest.raises(
                RecipeError, match=r"a\.txt cannot be read: Permission denied; .*\.containerignore"
            ):
                recipe(context)
        finally:
            os.seteuid(user)


def test_a_malformed_ignore_file_is_named(context: Path) -> None:
    (context / ".dockerignore").write_text("[a\n")
    with pytest.raises(RecipeError, match=r"\.dockerignore: pattern '\[a' has no closing bracket"):
        recipe(context)


def test_a_containerfile_that_is_gone_is_named(context: Path) -> None:
    (context / "Containerfile").unlink()
    with pytest.raises(RecipeError, match="Containerfile is gone"):
        recipe(context)
