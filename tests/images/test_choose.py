import asyncio
from pathlib import Path

import pytest

from imagechain.images import BuilderError, choose_builder
from imagechain.images.buildah import NEEDED_FLAGS
from imagechain.images.isolation import choose_isolation
from images.stores import needs_buildah


def program(folder: Path, name: str, script: str) -> None:
    file = folder / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_without_a_builder_the_package_is_named(path: Path) -> None:
    with pytest.raises(BuilderError, match="sudo apt-get install buildah"):
        asyncio.run(choose_builder())


def test_a_builder_that_is_too_old_is_refused_with_what_it_lacks(path: Path) -> None:
    program(path, "buildah", "echo --iidfile --isolation --timestamp")
    with pytest.raises(
        BuilderError, match=r"too old: .* knows no --identity-label, --build-context, --ignorefile"
    ):
        asyncio.run(choose_builder())


def test_a_builder_that_does_not_work_is_refused_with_what_it_says(path: Path) -> None:
    program(path, "buildah", "echo no room >&2; exit 125")
    with pytest.raises(BuilderError, match=r"buildah does not work: .*no room"):
        asyncio.run(choose_builder())


@pytest.mark.parametrize("installed", [("docker",), ("docker", "podman"), ("docker", "podman", "buildah")])
def test_buildah_comes_first_then_podman_then_docker(path: Path, installed: tuple[str, ...]) -> None:
    for name in installed:
        program(path, name, f"echo --label --build-arg {' '.join(NEEDED_FLAGS)}")
    assert asyncio.run(choose_builder()).program == installed[-1]


PROBE = """\
case "$1" in
  from) echo c1 ;;
  run) echo "$@" >> "$LOG"; [ -z "$REFUSE" ] || { echo "no containers here" >&2; exit 1; } ;;
  rm) echo "rm $2" >> "$LOG" ;;
esac"""


@pytest.mark.parametrize("refuse", ["", "yes"])
def test_the_isolation_is_probed_once_and_the_reason_kept(
    path: Path, monkeypatch: pytest.MonkeyPatch, refuse: str
) -> None:
    monkeypatch.delenv("BUILDAH_ISOLATION", raising=False)
    monkeypatch.setenv("LOG", str(path / "log"))
    monkeypatch.setenv("REFUSE", refuse)
    program(path, "buildah", PROBE)
    first = asyncio.run(choose_isolation(path / "cache"))
    assert (first[0] == "chroot") == bool(refuse)
    assert ("no containers here" in first[1]) == bool(refuse)
    told = (path / "log").read_text()
    assert "rm c1" in told
    assert asyncio.run(choose_isolation(path / "cache")) == first
    assert (path / "log").read_text() == told, "it is not asked again"


def test_a_person_decides_about_the_isolation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BUILDAH_ISOLATION", "rootless")
    assert asyncio.run(choose_isolation(tmp_path)) == ("rootless", "BUILDAH_ISOLATION says so")


@pytest.mark.builds
def test_the_builder_of_this_machine_can_do_what_is_needed() -> None:
    needs_buildah()
    assert asyncio.run(choose_builder()).program == "buildah"
