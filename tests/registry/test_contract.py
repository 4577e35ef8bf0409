"""One contract for all registries: the real docker-registry, and the fake that other tests rely on."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from itertools import count
from typing import Protocol, TypeVar

import httpx2
import pytest

from imagechain.config import RegistrySettings
from imagechain.refs import Platform, Reference, parse_reference
from imagechain.registry import (
    AbsentError,
    Index,
    Manifest,
    NotAnImageError,
    PlatformAbsentError,
    RegistryClient,
)
from imagechain.registry import repository as repository_module
from registry.fakes import FakeRegistry, Network
from registry.pictures import (
    DOCKER_CONFIG,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_INDEX,
    OCI_MANIFEST,
    Stored,
    make_image,
    make_index,
)

T = TypeVar("T")
AMD64 = Platform("linux", "amd64")
ARM64 = Platform("linux", "arm64")
_numbers = count()


class Pushes(Protocol):
    def push(self, repository: str, stored: Stored, tag: str | None = None) -> None: ...


class Place:
    """A registry with one fresh repository."""

    def __init__(self, host: str, registry: Pushes, transport: httpx2.AsyncBaseTransport | None) -> None:
        self.host = host
        self.registry = registry
        self.transport = transport
        self.repository = f"group/repository-{next(_numbers)}"

    def push(self, stored: Stored, tag: str | None = None) -> None:
        self.registry.push(self.repository, stored, tag)

    def reference(self, tag: str = "latest") -> Reference:
        return parse_reference(f"{self.host}/{self.repository}:{tag}")

    def by_digest(self, digest: str) -> Reference:
        return parse_reference(f"{self.host}/{self.repository}@{digest}")

    def ask(self, question: Callable[[RegistryClient], Awaitable[T]]) -> T:
        async def run() -> T:
            settings = {self.host: RegistrySettings(insecure=self.transport is None)}
            async with RegistryClient(settings=settings, transport=self.transport) as client:
                return await question(client)

        return asyncio.run(run())


@pytest.fixture(params=["fake", "real"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    if request.param == "real":
        server = request.getfixturevalue("open_registry")
        yield Place(server.address, server, None)
    else:
        fake = FakeRegistry()
        yield Place("registry.example.com", fake, Network({"registry.example.com": fake}))


@pytest.mark.parametrize(
    ("manifest_type", "config_type"),
    [(OCI_MANIFEST, "application/vnd.oci.image.config.v1+json"), (DOCKER_MANIFEST, DOCKER_CONFIG)],
)
def test_head_names_digest_type_and_size_of_an_image(
    place: Place, manifest_type: str, config_type: str
) -> None:
    image = make_image(media_type=manifest_type, config_type=config_type)
    place.push(image, "latest")
    descriptor = place.ask(lambda client: client.head(place.reference()))
    assert descriptor.digest == image.digest
    assert descriptor.media_type == manifest_type
    assert descriptor.size == len(image.raw)


@pytest.mark.parametrize("index_type", [OCI_INDEX, DOCKER_LIST])
def test_head_of_a_multi_platform_tag_names_the_index(place: Place, index_type: str) -> None:
    child_type = OCI_MANIFEST if index_type == OCI_INDEX else DOCKER_MANIFEST
    index = make_index({"linux/amd64": make_image(media_type=child_type)}, media_type=index_type)
    place.push(index, "latest")
    assert place.ask(lambda client: client.head(place.reference())).digest == index.digest


def test_a_manifest_keeps_its_bytes(place: Place) -> None:
    image = make_image(layers=[b"one", b"two"], annotations={"a": "b"})
    place.push(image, "latest")
    manifest = place.ask(lambda client: client.manifest(place.reference()))
    assert isinstance(manifest, Manifest)
    assert manifest.raw == image.raw
    assert manifest.descriptor.digest == image.digest
    assert len(manifest.layers) == 2
    assert manifest.annotations == {"a": "b"}


def test_an_oci_manifest_may_leave_out_its_media_type(place: Place) -> None:
    image = make_image(says_type=False)
    place.push(image, "latest")
    assert place.ask(lambda client: client.image(place.reference(), AMD64)).digest == image.digest


def test_an_oci_index_may_leave_out_its_media_type(place: Place) -> None:
    image = make_image(says_type=False)
    index = make_index({"linux/amd64": image}, says_type=False)
    place.push(index, "latest")
    found = place.ask(lambda client: client.manifest(place.reference()))
    assert isinstance(found, Index)
    assert [entry.platform for entry in found.entries] == [AMD64]


def test_an_image_is_that_of_the_platform(place: Place) -> None:
    amd64 = make_image(labels={"of": "amd64"}, annotations={"a": "image", "b": "image"})
    arm64 = make_image(architecture="arm64", labels={"of": "arm64"}, layers=[b"layer"])
    index = make_index(
        {"linux/amd64": amd64, "linux/arm64/v8": arm64}, annotations={"a": "index", "c": "index"}
    )
    place.push(index, "latest")
    first = place.ask(lambda client: client.image(place.reference(), AMD64))
    second = place.ask(lambda client: client.image(place.reference(), ARM64))
    assert (first.index_digest, first.digest, first.labels) == (index.digest, amd64.digest, {"of": "amd64"})
    assert first.annotations == {"a": "image", "b": "image", "c": "index"}
    assert (second.digest, second.labels, len(second.diff_ids)) == (arm64.digest, {"of": "arm64"}, 1)
    assert first.content_key != second.content_key


def test_a_rebuild_with_other_times_keeps_the_content_key(place: Place) -> None:
    place.push(make_image(created="2026-01-01T00:00:00Z", labels={"build": "1"}), "one")
    place.push(make_image(created="2026-02-02T00:00:00Z", labels={"build": "2"}), "two")
    one = place.ask(lambda client: client.image(place.reference("one"), AMD64))
    two = place.ask(lambda client: client.image(place.reference("two"), AMD64))
    assert one.digest != two.digest
    assert one.content_key == two.content_key


def test_a_platform_that_is_not_offered_is_absent_and_the_others_are_named(place: Place) -> None:
    place.push(make_index({"linux/arm64": make_image(architecture="arm64")}), "latest")
    with pytest.raises(PlatformAbsentError, match=r"linux/amd64.*linux/arm64"):
        place.ask(lambda client: client.image(place.reference(), AMD64))


def test_a_tag_that_is_not_there_is_absent(place: Place) -> None:
    place.push(make_image(), "latest")
    missing = place.reference("missing")
    with pytest.raises(AbsentError, match="missing"):
        place.ask(lambda client: client.head(missing))
    with pytest.raises(AbsentError, match="missing"):
        place.ask(lambda client: client.manifest(missing))


def test_a_repository_that_is_not_there_is_absent(place: Place) -> None:
    with pytest.raises(AbsentError):
        place.ask(lambda client: client.head(place.reference()))
    with pytest.raises(AbsentError):
        place.ask(lambda client: client.tags(place.reference()))


def test_a_reference_with_tag_and_digest_is_what_the_digest_says(place: Place) -> None:
    old, new = make_image(labels={"age": "old"}), make_image(labels={"age": "new"})
    place.push(old, "latest")
    place.push(new, "latest")
    pinned = parse_reference(f"{place.reference()}@{old.digest}")
    assert place.ask(lambda client: client.head(pinned)).digest == old.digest
    assert place.ask(lambda client: client.image(pinned, AMD64)).labels == {"age": "old"}


def test_a_chart_is_no_image(place: Place) -> None:
    place.push(make_image(config_type="application/vnd.cncf.helm.config.v1+json"), "latest")
    with pytest.raises(NotAnImageError, match=r"helm\.config"):
        place.ask(lambda client: client.image(place.reference(), AMD64))


def test_all_pages_of_tags_are_listed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repository_module, "TAGS_PER_PAGE", 7)
    tags = [f"v{number:04}" for number in range(20)]
    image = make_image()
    for tag in tags:
        place.push(image, tag)
    assert sorted(place.ask(lambda client: client.tags(place.reference()))) == tags
