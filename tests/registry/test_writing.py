"""Pushing and copying: one contract for the real docker-registry and for the fake."""

import asyncio
import subprocess
from collections.abc import Awaitable, Callable, Iterator
from itertools import count
from pathlib import Path
from typing import TypeVar

import httpx2
import pytest

from imagechain.config import RegistrySettings
from imagechain.refs import Reference, parse_reference
from imagechain.registry import (
    AbsentError,
    Copied,
    Copier,
    Credential,
    DeniedError,
    PartsMissingError,
    RefusedError,
    RegistryClient,
    RegistryError,
    ServerFailedError,
    UntrustedReplyError,
)
from imagechain.registry import copying as copying_module
from imagechain.registry.manifest import OCI_INDEX, OCI_MANIFEST, Descriptor
from registry.fakes import FakeClock, FakeRegistry, FakeTokenService, Network, answers, drops, error
from registry.pictures import DOCKER_LIST, DOCKER_MANIFEST, Stored, make_image, make_index, sha256
from registry.servers import PASSWORD, USER, Server, TokenService, basic, run_registry

T = TypeVar("T")
HOST = "registry.example.com"
LARGE = bytes(range(256)) * 4096
_numbers = count()


class Place:
    """A registry with two fresh repositories."""

    def __init__(
        self,
        host: str,
        push: Callable[[str, Stored, str | None], None],
        transport: httpx2.AsyncBaseTransport | None = None,
        credential: Credential | None = None,
    ) -> None:
        self.host, self.transport, self.credential = host, transport, credential
        self._push = push
        number = next(_numbers)
        self.source = parse_reference(f"{host}/source-{number}/image")
        self.target = parse_reference(f"{host}/target-{number}/image")

    def push(self, stored: Stored, tag: str | None = "latest") -> None:
        self._push(self.source.path, stored, tag)

    def ask(self, question: Callable[[RegistryClient], Awaitable[T]]) -> T:
        async def run() -> T:
            async with RegistryClient(
                settings={self.host: RegistrySettings(insecure=self.transport is None)},
                fallbacks={self.host: self.credential} if self.credential else None,
                transport=self.transport,
            ) as client:
                return await question(client)

        return asyncio.run(run())

    def copy(self, tag: str = "latest", source: Reference | None = None) -> Copied:
        return self.ask(lambda client: copy(client, source or self.source, self.target, tag))

    def digest(self, reference: Reference) -> str:
        return self.ask(lambda client: client.head(reference)).digest


async def copy(client: RegistryClient, source: Reference, target: Reference, tag: str) -> Copied:
    here, there = client.direct(source), client.direct(target)
    return await Copier().copy(here, there, await here.manifest(tag), tag)


def a_fake() -> tuple[FakeRegistry, Place]:
    fake = FakeRegistry()
    return fake, Place(HOST, fake.push, Network({HOST: fake}))


@pytest.fixture(params=["fake", "open", "password", "token"])
def place(request: pytest.FixtureRequest) -> Iterator[Place]:
    if request.param == "fake":
        yield a_fake()[1]
    elif request.param == "open":
        server: Server = request.getfixturevalue("open_registry")
        yield Place(server.address, server.push)
    elif request.param == "password":
        guarded: Server = request.getfixturevalue("password_registry")

        def push(repository: str, stored: Stored, tag: str | None) -> None:
            guarded.push(repository, stored, tag, authorization=basic(USER, PASSWORD))

        yield Place(guarded.address, push, credential=Credential(USER, PASSWORD))
    else:
        tokens: tuple[Server, TokenService] = request.getfixturevalue("token_registry")
        place = Place(tokens[0].address, lambda *_: None, credential=Credential(USER, PASSWORD))

        def push_ours(repository: str, stored: Stored, tag: str | None) -> None:
            place.ask(lambda client: put(client, place.source, stored, tag or stored.digest))

        place._push = push_ours
        yield place


async def put(client: RegistryClient, reference: Reference, stored: Stored, target: str) -> None:
    repository = client.direct(reference)
    for child in stored.children:
        await put(client, reference, child, child.digest)
    for blob in stored.blobs:
        location = await repository.begin_upload()
        assert location is not None
        await repository.upload(location, sha256(blob), blob)
    await repository.put_manifest(target, stored.raw, stored.media_type)


def test_what_is_put_is_there_with_its_digest(place: Place) -> None:
    image = make_image(layers=[b"one", b"two"])
    place.ask(lambda client: put(client, place.target, image, "v1"))
    assert place.digest(parse_reference(f"{place.target.name}:v1")) == image.digest


@pytest.mark.parametrize(
    ("index_type", "manifest_type"), [(OCI_INDEX, OCI_MANIFEST), (DOCKER_LIST, DOCKER_MANIFEST)]
)
def test_a_copy_has_the_digest_of_the_original_with_all_platforms(
    place: Place, index_type: str, manifest_type: str
) -> None:
    children = {
        "linux/amd64": make_image(layers=[b"amd64", LARGE], media_type=manifest_type),
        "linux/arm64": make_image(architecture="arm64", layers=[b"arm64", LARGE], media_type=manifest_type),
        "unknown/unknown": make_image(os="unknown", architecture="unknown", media_type=manifest_type),
    }
    index = make_index(children, media_type=index_type)
    place.push(index)
    copied = place.copy()
    assert place.digest(place.target) == index.digest
    assert copied.manifests == 4
    for child in children.values():
        assert place.digest(parse_reference(f"{place.target.name}@{child.digest}")) == child.digest


def test_blobs_of_another_repository_are_mounted_and_not_sent(place: Place) -> None:
    image = make_image(layers=[LARGE, b"small"])
    place.push(image)
    copied = place.copy()
    assert (copied.blobs, copied.mounted) == (0, 3)


def test_a_second_copy_sends_nothing_but_the_name(place: Place) -> None:
    image = make_image(layers=[LARGE])
    place.push(image)
    place.copy()
    assert place.copy() == Copied(manifests=1)


def test_a_manifest_whose_layers_are_missing_is_not_taken(place: Place) -> None:
    image = make_image(layers=[f"missing {next(_numbers)}".encode()], labels={"n": str(next(_numbers))})

    async def only_manifest(client: RegistryClient) -> None:
        await client.direct(place.target).put_manifest("latest", image.raw, image.media_type)

    with pytest.raises(PartsMissingError, match="push the image there first"):
        place.ask(only_manifest)
    with pytest.raises(AbsentError):
        place.digest(place.target)


def test_what_refers_to_an_image_is_listed(place: Place) -> None:
    image = make_image(labels={"n": str(next(_numbers))})
    signature = make_image(config_type="application/vnd.example.signature.config", subject=image)
    second = make_image(config_type="application/vnd.example.sbom.config", subject=image)

    async def sign(client: RegistryClient) -> list[str]:
        await put(client, place.target, image, "latest")
        await put(client, place.target, signature, signature.digest)
        await put(client, place.target, second, second.digest)
        await put(client, place.target, second, second.digest)
        return [entry.digest for entry in await client.direct(place.target).referrers(image.digest)]

    assert place.ask(sign) == [signature.digest, second.digest]


def test_nothing_refers_to_an_image_by_itself(place: Place) -> None:
    image = make_image()
    place.push(image)
    assert place.ask(lambda client: client.direct(place.source).referrers(image.digest)) == ()


def test_a_blob_between_two_registries_is_streamed_with_its_digest(
    open_registry: Server, password_registry: Server
) -> None:
    large = LARGE * 20
    image = make_image(layers=[large, b"small"])
    open_registry.push("from/here", image, "latest")
    source = parse_reference(f"{open_registry.address}/from/here")
    target = parse_reference(f"{password_registry.address}/to/there")

    async def run() -> Copied:
        settings = {host: RegistrySettings(insecure=True) for host in (source.domain, target.domain)}
        login = {target.domain: Credential(USER, PASSWORD)}
        async with RegistryClient(settings=settings, fallbacks=login) as client:
            copied = await copy(client, source, target, "latest")
            assert (await client.head(target)).digest == image.digest
            return copied

    assert asyncio.run(run()) == Copied(
        manifests=1, blobs=3, blob_bytes=len(large) + len(b"small") + len(image.blobs[0])
    )


# --- logins ---------------------------------------------------------------------------------------------


def test_a_login_that_may_only_read_cannot_push(token_registry: tuple[Server, TokenService]) -> None:
    server = token_registry[0]
    place = Place(server.address, lambda *_: None)
    with pytest.raises(DeniedError, match=r"may write to .*write_registry") as caught:
        place.ask(lambda client: put(client, place.target, make_image(), "latest"))
    assert PASSWORD not in str(caught.value)


def test_tokens_are_asked_for_with_the_rights_that_are_needed() -> None:
    fake, place = a_fake()
    clock = FakeClock()
    tokens = FakeTokenService(clock)
    fake.token_service = tokens
    place.transport = Network({HOST: fake, "auth.example.com": tokens})
    image = make_image()
    place.push(image)

    async def run(client: RegistryClient) -> None:
        await copy(client, place.source, place.target, "latest")
        await client.direct(place.target).delete("latest")

    place.ask(run)
    source, target = place.source.path, place.target.path
    assert [request.url.params.get_list("scope") for request in tokens.requests] == [
        [f"repository:{source}:pull"],
        [f"repository:{target}:pull"],
        [f"repository:{target}:pull,push", f"repository:{source}:pull"],
        [f"repository:{target}:pull,push"],
        [f"repository:{target}:delete"],
    ]


def test_a_mount_that_is_not_allowed_becomes_an_upload() -> None:
    fake, place = a_fake()
    place.push(make_image(layers=[LARGE]))
    fake.fault(lambda _: error(403, "DENIED"), where="mount=")
    assert place.copy().blobs == 2


def test_an_upload_at_another_host_goes_on_without_the_login() -> None:
    fake, place = a_fake()
    storage = FakeRegistry()
    storage.fault(answers(201))
    place.transport = Network({HOST: fake, "storage.example.com": storage})
    fake.users = {"alice": "secret"}
    place.credential = Credential("alice", "secret")
    fake.fault(answers(202, {"location": "https://storage.example.com/put?key=1"}), method="POST")

    async def upload(client: RegistryClient) -> None:
        repository = client.direct(place.target)
        await repository.head("latest")

    with pytest.raises(AbsentError):
        place.ask(upload)

    async def go_on(client: RegistryClient) -> None:
        repository = client.direct(place.target)
        location = await repository.begin_upload()
        assert location is not None
        await repository.upload(location, sha256(b"x"), b"x")

    place.ask(go_on)
    (request,) = storage.requests
    assert "authorization" not in request.headers
    assert request.url.params["digest"] == sha256(b"x")
    assert request.url.params["key"] == "1"


def test_an_upload_does_not_go_on_without_tls() -> None:
    fake, place = a_fake()
    fake.fault(answers(202, {"location": "http://registry.example.com/put"}), method="POST")
    with pytest.raises(UntrustedReplyError, match="without TLS"):
        place.ask(lambda client: put(client, place.target, make_image(), "latest"))


# --- faults ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [drops, answers(500), answers(503)])
@pytest.mark.parametrize("method", ["HEAD", "GET", "POST", "PATCH", "PUT"])
def test_a_failure_that_passes_does_not_stop_a_copy(
    fault: Callable[[httpx2.Request], httpx2.Response], method: str
) -> None:
    fake, place = a_fake()
    fake.mounts = False
    image = make_index({"linux/amd64": make_image(layers=[LARGE])})
    place.push(image)
    fake.fault(fault, method=method, times=2)
    place.copy()
    assert place.digest(place.target) == image.digest


def test_a_reply_that_is_lost_after_the_upload_was_completed_does_no_harm() -> None:
    fake, place = a_fake()
    fake.mounts = False
    place.push(make_image(layers=[LARGE]))

    def done_and_dropped(request: httpx2.Request) -> httpx2.Response:
        fake.answer(request)
        return drops(request)

    fake.fault(done_and_dropped, method="PUT", where="uploads", times=1)
    place.copy()
    assert fake.tags[place.target.path] == fake.tags[place.source.path]


@pytest.mark.parametrize("where", ["/blobs/uploads/", "/manifests/sha256", "/manifests/latest"])
def test_whatever_cannot_be_pushed_no_name_points_to_a_part(where: str) -> None:
    fake, place = a_fake()
    fake.mounts = False
    place.push(make_index({"linux/amd64": make_image(layers=[LARGE]), "linux/arm64": make_image()}))
    fake.fault(answers(500), method="PUT", where=where)
    with pytest.raises(ServerFailedError):
        place.copy()
    assert place.target.path not in fake.tags


def test_a_copy_that_was_cut_off_goes_on_where_it_was() -> None:
    fake, place = a_fake()
    fake.mounts = False
    place.push(make_image(layers=[LARGE, LARGE[1:], b"small"]))
    fake.fault(answers(500), method="PUT", where="/manifests/")
    with pytest.raises(ServerFailedError):
        place.copy()
    fake.faults.clear()
    assert place.copy() == Copied(manifests=1)


@pytest.mark.parametrize("layer", [LARGE, b"small"])
def test_a_source_that_lies_about_a_layer_leaves_nothing(layer: bytes) -> None:
    fake, place = a_fake()
    fake.mounts = False
    place.push(make_image(layers=[layer]))
    fake.fault(answers(200, content=layer[:-1] + b"!"), method="GET", where=sha256(layer))
    with pytest.raises(UntrustedReplyError, match=r"digest|other bytes"):
        place.copy()
    assert place.target.path not in fake.tags
    assert (place.target.path, sha256(layer)) not in fake.blobs


@pytest.mark.parametrize("content", [LARGE + b"!", LARGE[:-1]])
def test_a_layer_of_another_length_is_refused(content: bytes) -> None:
    fake, place = a_fake()
    fake.mounts = False
    place.push(make_image(layers=[LARGE]))
    fake.fault(answers(200, content=content), method="GET", where=sha256(LARGE))
    with pytest.raises(RegistryError):
        place.copy()
    assert (place.target.path, sha256(LARGE)) not in fake.blobs


def test_a_registry_that_stored_something_else_is_not_believed() -> None:
    fake, place = a_fake()
    fake.fault(answers(201, {"docker-content-digest": sha256(b"another")}), method="PUT", where="/manifests/")
    with pytest.raises(UntrustedReplyError, match="stored"):
        place.ask(lambda client: put(client, place.target, make_image(), "latest"))


@pytest.mark.parametrize("status", [405, 409, 412, 413])
def test_a_registry_that_does_not_take_it_is_quoted(status: int) -> None:
    fake, place = a_fake()
    fake.fault(lambda _: error(status, "TAG_IS_IMMUTABLE"), method="PUT", where="/manifests/")
    with pytest.raises(RefusedError, match=rf"{status}.*TAG_IS_IMMUTABLE"):
        place.ask(lambda client: put(client, place.target, make_image(), "latest"))
    assert len(fake.asked("PUT", "/manifests/")) == 1


def test_an_index_in_too_many_indexes_is_not_followed() -> None:
    _, place = a_fake()
    stored = make_image()
    for _ in range(copying_module.DEPTH_MAX + 1):
        stored = make_index({"linux/amd64": stored})
    place.push(stored)
    with pytest.raises(RegistryError, match="index in more than"):
        place.copy()


def test_layers_that_may_not_be_given_on_are_left_out() -> None:
    fake, place = a_fake()
    image = make_image(layers=[b"windows"])
    foreign = image.raw.replace(b"image.layer.v1", b"image.layer.nondistributable.v1")
    assert foreign != image.raw
    fake.push(place.source.path, Stored(foreign, OCI_MANIFEST, image.blobs[:1]), "latest")
    fake.blobs[place.target.path, sha256(b"windows")] = b"windows"
    assert place.copy().mounted == 1


def test_many_copies_at_once_within_one_registry_do_not_wait_for_each_other() -> None:
    fake, place = a_fake()
    fake.mounts = False
    for number in range(12):
        place.push(make_image(layers=[bytes([number]) * (copying_module.SMALL_BYTES_MAX + 1)]), f"v{number}")

    async def all_of_them(client: RegistryClient) -> None:
        copier, here, there = Copier(), client.direct(place.source), client.direct(place.target)

        async def one(tag: str) -> None:
            await copier.copy(here, there, await here.manifest(tag), tag)

        async with asyncio.timeout(60):
            await asyncio.gather(*(one(f"v{number}") for number in range(12)))

    place.ask(all_of_them)
    assert fake.tags[place.target.path] == fake.tags[place.source.path]


def test_one_layer_of_many_images_is_sent_once() -> None:
    fake, place = a_fake()
    fake.mounts = False
    for number in range(6):
        place.push(make_image(layers=[LARGE], labels={"n": str(number)}), f"v{number}")

    async def all_of_them(client: RegistryClient) -> None:
        copier, here, there = Copier(), client.direct(place.source), client.direct(place.target)

        async def one(tag: str) -> None:
            await copier.copy(here, there, await here.manifest(tag), tag)

        await asyncio.gather(*(one(f"v{number}") for number in range(6)))

    place.ask(all_of_them)
    assert len(fake.asked("PATCH")) == 1


# --- deleting -------------------------------------------------------------------------------------------


def test_a_tag_is_deleted_and_the_others_stay() -> None:
    fake, place = a_fake()
    image = make_image()
    place.push(image, "one")
    place.push(image, "two")
    place.ask(lambda client: client.direct(place.source).delete("one"))
    assert set(fake.tags[place.source.path]) == {"two"}


def test_a_registry_that_deletes_no_tags_says_so(open_registry: Server) -> None:
    place = Place(open_registry.address, open_registry.push)
    place.push(make_image())
    with pytest.raises(RefusedError, match="does not delete latest"):
        place.ask(lambda client: client.direct(place.source).delete("latest"))


def test_what_is_not_there_cannot_be_deleted() -> None:
    _, place = a_fake()
    with pytest.raises(AbsentError):
        place.ask(lambda client: client.direct(place.source).delete("latest"))


# --- a registry without room ----------------------------------------------------------------------------


def test_a_registry_whose_disk_is_full_has_no_half_image(tmp_path: Path) -> None:
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", tmp_path], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("needs a tmpfs of its own, which only root may mount")
    source = FakeRegistry()
    image = make_image(layers=[LARGE * 8])
    source.push("image", image, "latest")
    try:
        with run_registry(tmp_path) as server:
            target = parse_reference(f"{server.address}/image")

            async def run() -> None:
                settings = {server.address: RegistrySettings(insecure=True)}
                async with (
                    RegistryClient(transport=Network({HOST: source})) as reader,
                    RegistryClient(settings=settings) as writer,
                ):
                    here, there = reader.direct(parse_reference(f"{HOST}/image")), writer.direct(target)
                    with pytest.raises(RegistryError, match=r"500|could not be asked"):
                        await Copier().copy(here, there, await here.manifest("latest"), "latest")
                    with pytest.raises(AbsentError):
                        await there.head("latest")
                    descriptor = Descriptor(digest=sha256(LARGE * 8))
                    assert not await there.has_blob(descriptor.digest)

            asyncio.run(run())
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)
