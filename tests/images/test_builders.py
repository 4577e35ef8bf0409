"""One contract for all builders: the one in memory, and each program that is installed."""

import asyncio
import json
import os
import resource
import shutil
from collections.abc import Awaitable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest

from imagechain.images import Builder, BuilderError, BuildFailedError, BuildRequest
from imagechain.images import buildah as buildah_module
from imagechain.images.buildah import Buildah, limit_flags
from imagechain.images.docker import DockerLike
from images.docker_daemon import needs_buildx
from images.fake_builder import FakeBuilder
from images.stores import BASE, BUSYBOX, buildah

_T = TypeVar("_T")


@pytest.fixture(
    params=["fake"]
    + [pytest.param(name, marks=pytest.mark.builds) for name in ("buildah", "podman", "docker", "buildx")]
)
def builder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Builder]:
    name = request.param
    if name == "fake":
        yield FakeBuilder()
        return
    real: Builder
    if name in {"docker", "buildx"}:
        request.getfixturevalue("docker")
        if name == "buildx":
            needs_buildx()
        real = DockerLike(name)
    else:
        request.getfixturevalue("empty_store")
        if not shutil.which(name):
            pytest.skip(f"{name} is not installed")
        real = Buildah() if name == "buildah" else DockerLike(name)
    wait(real.prepare(tmp_path / "cache"))
    yield real


def wait(work: Awaitable[_T]) -> _T:
    async def waiting() -> _T:
        return await work

    return asyncio.run(waiting())


class Workshop:
    def __init__(self, folder: Path, builder: Builder) -> None:
        self.folder = folder
        self.builder = builder
        self.count = 0
        self.log = b""
        (folder / "context").mkdir()
        shutil.copy(BUSYBOX, folder / "context" / "busybox")

    def request(
        self, *names: str, text: str, labels: dict[str, str] | None = None, **pins: str
    ) -> BuildRequest:
        self.count += 1
        work = self.folder / str(self.count)
        work.mkdir()
        (work / "Containerfile").write_text(text)
        return BuildRequest(
            names=names,
            containerfile=work / "Containerfile",
            context=self.folder / "context",
            ignore_file=None,
            build_args={},
            pins={name.replace("__", "/"): image for name, image in pins.items()},
            labels=labels or {},
            bases=(),
            created=None,
            docker_format=False,
            work=work,
        )

    def build(self, *names: str, text: str, labels: dict[str, str] | None = None, **pins: str) -> str:
        facts = wait(self.builder.build(self.request(*names, text=text, labels=labels, **pins), self.write))
        return facts.id

    def write(self, chunk: bytes) -> None:
        self.log += chunk


TINY = "FROM scratch\nCOPY tiny /tiny\n"


@pytest.fixture
def workshop(tmp_path: Path, builder: Builder) -> Workshop:
    workshop = Workshop(tmp_path, builder)
    (tmp_path / "context" / "tiny").write_text("tiny")
    return workshop


def test_a_built_image_has_its_names_labels_and_facts(workshop: Workshop) -> None:
    image_id = workshop.build("localhost/a:latest", "localhost/a:1", text=TINY, labels={"own": "a=b c"})
    listing = wait(workshop.builder.list_images())
    assert {listing.by_name[name].id for name in ("localhost/a:latest", "localhost/a:1")} == {image_id}
    facts = wait(workshop.builder.read_image(image_id))
    assert facts == wait(workshop.builder.read_image("localhost/a:1"))
    assert facts.labels["own"] == "a=b c"
    assert len(facts.diff_ids) == 1
    assert b"COPY tiny" in workshop.log


def test_a_rebuild_of_the_same_has_the_same_content_and_another_has_not(workshop: Workshop) -> None:
    contents = []
    for text in ("tiny", "tiny", "other"):
        (workshop.folder / "context" / "tiny").write_text(text)
        contents.append(
            wait(workshop.builder.read_image(workshop.build("localhost/a:latest", text=TINY))).content
        )
    assert contents[0] == contents[1] != contents[2]


def test_a_pinned_name_means_the_image_it_is_pinned_to(workshop: Workshop) -> None:
    first = workshop.build("localhost/a:latest", text=TINY)
    (workshop.folder / "context" / "tiny").write_text("other")
    workshop.build("localhost/a:latest", text=TINY)
    text = "FROM localhost/a\nCOPY tiny /more\n"
    child = workshop.build("localhost/b:latest", text=text, localhost__a=first)
    assert (
        wait(workshop.builder.read_image(child)).diff_ids[:1]
        == wait(workshop.builder.read_image(first)).diff_ids
    )


def test_a_failed_build_names_nothing(workshop: Workshop) -> None:
    text = "FROM scratch\nCOPY tiny /tiny\nRUN fail\n"
    with pytest.raises(BuildFailedError, match="ended with exit code"):
        workshop.build("localhost/a:latest", text=text)
    assert wait(workshop.builder.list_images()).by_name == {}


def test_an_image_that_no_registry_has_is_an_error(workshop: Workshop) -> None:
    with pytest.raises(BuilderError):
        wait(workshop.builder.pull("localhost:1/nobody/nothing:latest"))


def test_an_image_that_is_gone_is_an_error(workshop: Workshop) -> None:
    with pytest.raises(BuilderError):
        wait(workshop.builder.read_image("0" * 64))


def test_removed_images_are_gone_and_a_missing_one_does_not_matter(workshop: Workshop) -> None:
    first = workshop.build("localhost/a:latest", text=TINY)
    (workshop.folder / "context" / "tiny").write_text("other")
    second = workshop.build("localhost/a:latest", text=TINY)
    wait(workshop.builder.remove(["0" * 64, first]))
    wait(workshop.builder.tidy())
    assert [image.id for image in wait(workshop.builder.list_images()).images] == [second]


def test_run_keeps_lower_limits_of_this_process_and_never_more_than_older_versions_can_give(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "pid_max").write_text("32768\n")
    monkeypatch.setattr(buildah_module, "_PROCESS_IDS", tmp_path / "pid_max")
    limits = {resource.RLIMIT_NOFILE: (1024, 20_000), resource.RLIMIT_NPROC: (96_365, 96_365)}
    monkeypatch.setattr(resource, "getrlimit", limits.__getitem__)
    assert limit_flags() == ("--ulimit=nofile=1024:20000", "--ulimit=nproc=32768:32768")
    limits[resource.RLIMIT_NOFILE] = (1024, 2**20)
    limits[resource.RLIMIT_NPROC] = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
    assert limit_flags() == ()


@pytest.mark.builds
def test_buildah_removes_only_the_leftovers_that_it_is_told_of(tmp_path: Path, empty_store: Path) -> None:
    ours, theirs = Workshop(tmp_path, Buildah()), Buildah()
    ours.build("localhost/base:latest", text=BASE)
    person = buildah("from", "localhost/base").strip()
    marked = tmp_path / "run" / "mounts.conf"
    marked.parent.mkdir()
    marked.touch()
    buildah("--default-mounts-file", str(marked), "from", "localhost/base")
    assert wait(theirs.sweep([].__contains__)) == 0
    assert wait(theirs.sweep(lambda work: Path(work).is_relative_to(tmp_path))) == 2, (
        "a container and an image"
    )
    assert buildah("containers", "--format", "{{.ContainerName}}").split() == [person]
    assert len(buildah("images", "-q", "--all").split()) == 1


def test_an_image_of_which_a_killed_program_wrote_only_a_part_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torn = "d4" * 32
    program = tmp_path / "buildah"
    # Answers like buildah 1.28 as long as the image is there; each removal is written down.
    program.write_text(
        "#!/bin/sh\n"
        f'if [ "$1" = rmi ]; then echo "$2" >> {tmp_path}/removed; exit 0; fi\n'
        f"if [ -e {tmp_path}/removed ]; then echo '[]'; exit 0; fi\n"
        f"""echo 'Error: locating item named "manifest" for image with ID "{torn}" (consider removing the """
        "image to resolve the issue): file does not exist' >&2\nexit 125\n"
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(buildah_module, "_TORN_SECONDS", 0.01)
    assert wait(Buildah().sweep([].__contains__)) == 1
    assert (tmp_path / "removed").read_text().split() == [torn]


@pytest.mark.builds
def test_an_image_that_has_nothing_but_its_record_is_removed(tmp_path: Path, empty_store: Path) -> None:
    workshop = Workshop(tmp_path, Buildah())
    (workshop.folder / "context" / "tiny").write_text("whole")
    whole = workshop.build("localhost/whole:latest", text=TINY)
    (workshop.folder / "context" / "tiny").write_text("torn")
    torn = workshop.build("localhost/torn:latest", text=TINY)
    wait(workshop.builder.tidy())
    # What containers/storage writes of an image first, and all the rest after it.
    [written] = (empty_store / "graph").glob(f"*-images/{torn}")
    for file in written.iterdir():
        file.unlink()
    records = json.loads((written.parent / "images.json").read_text())
    [record] = [record for record in records if record["id"] == torn]
    for key in record.keys() - {"id", "layer", "metadata", "created"}:
        del record[key]
    (written.parent / "images.json").write_text(json.dumps(records))
    assert wait(workshop.builder.sweep([].__contains__)) == 1
    assert buildah("images", "-q", "--all", "--no-trunc").split() == [f"sha256:{whole}"]
