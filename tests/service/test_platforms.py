"""Images for several platforms: what moves for a platform in use counts, what moves for another does not."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from imagechain.chain import SourceStatus
from imagechain.cli.wiring import NoCache
from imagechain.config import PolicySettings
from imagechain.config.values import Duration
from imagechain.images.builder import INPUTS_LABEL
from imagechain.refs import content_key, decode_image_config, parse_platform, parse_reference
from imagechain.registry import RegistryClient
from imagechain.service.platforms import is_part_of, join_platforms
from imagechain.service.ports import ImageAbsent, ImageRead, ImageUnchecked
from imagechain.service.registry_images import RegistryImages
from imagechain.store import Store
from registry.fakes import FakeHost, FakeRegistry, Network
from registry.pictures import Stored, make_image, make_index
from service.test_changes_in_gitlab import reconcile
from service.whole import REGISTRY, View, Whole, store_at, until

HOST = "r.example.com"
REFERENCE = f"{HOST}/base:latest"
DEBIAN = "docker.io/library/debian:bookworm"
AMD64, ARM64, RISCV64 = "linux/amd64", "linux/arm64", "linux/riscv64"
ALL = (AMD64, ARM64, RISCV64)

Reading = ImageRead | ImageAbsent | ImageUnchecked


def picture(platform: str, text: str, label: Mapping[str, str] | None = None) -> Stored:
    _, architecture, *variant = platform.split("/")
    records = {name: {"digest": "sha256:0", "content": content} for name, content in (label or {}).items()}
    return make_image(
        architecture=architecture,
        variant="".join(variant),
        layers=[f"{platform} {text}".encode()],
        labels={INPUTS_LABEL: json.dumps(records)} if label is not None else {},
    )


def content_of(image: Stored) -> str:
    return content_key(decode_image_config(image.blobs[0]))


class Place:
    """A registry with one image, looked at through the service's eyes."""

    def __init__(self, *platforms: str) -> None:
        self.registry = FakeRegistry()
        self.platforms = [parse_platform(platform) for platform in platforms]

    def read(self, *moves: Stored) -> list[Reading]:
        async def main() -> list[Reading]:
            async with RegistryClient(transport=Network({HOST: self.registry})) as client:
                images = RegistryImages(client, self.platforms, NoCache())
                found = []
                for stored in moves:
                    self.registry.push("base", stored, "latest")
                    found.append(await images.read(REFERENCE))
                return found

        return asyncio.run(main())


def index(texts: Mapping[str, object]) -> Stored:
    return make_index({platform: picture(platform, str(text)) for platform, text in texts.items()})


# --- what an image is -----------------------------------------------------------------------------------


@settings(deadline=None, max_examples=50)
@given(
    used=st.lists(st.sampled_from(ALL), min_size=1, unique=True),
    moves=st.lists(
        st.dictionaries(st.sampled_from(ALL), st.integers(0, 2), min_size=1), min_size=2, max_size=5
    ),
)
def test_a_version_changes_exactly_when_a_platform_in_use_changes(
    used: list[str], moves: list[dict[str, int]]
) -> None:
    found = Place(*used).read(*map(index, moves))
    said = [{platform: text for platform, text in move.items() if platform in used} for move in moves]
    for (reading, one), (other_reading, other) in zip(
        zip(found, said, strict=True), zip(found[1:], said[1:], strict=True), strict=False
    ):
        versions = [
            reading_.content if isinstance(reading_, ImageRead) else None
            for reading_ in (reading, other_reading)
        ]
        assert (versions[0] == versions[1]) == (one == other)
        assert isinstance(reading, ImageRead if one else ImageAbsent)


def test_an_image_for_one_platform_in_use_has_the_version_that_labels_and_stores_know() -> None:
    alone = content_of(picture(AMD64, "1"))
    for platforms in ([AMD64], [AMD64, ARM64]):
        place = Place(*platforms)
        for stored in (picture(AMD64, "1"), index({AMD64: 1}), index({AMD64: 1, RISCV64: 1})):
            (reading,) = place.read(stored)
            assert isinstance(reading, ImageRead)
            assert reading.content == alone


def test_what_is_no_index_is_for_the_platform_that_it_was_built_for() -> None:
    (reading,) = Place(AMD64, ARM64).read(picture(ARM64, "1"))
    assert isinstance(reading, ImageRead)
    assert set(reading.diff_ids) == {ARM64}


def test_all_platforms_of_an_image_cost_one_head_and_the_index_is_fetched_once() -> None:
    place = Place(AMD64, ARM64, RISCV64)
    both = index({AMD64: 1, ARM64: 1})
    first, second = place.read(both, both)
    assert first == second
    manifests = place.registry.asked("GET", "/manifests/")
    assert len(manifests) == 3
    assert len(place.registry.asked("HEAD")) == 2


def test_an_index_of_which_only_another_platform_moved_costs_one_pull() -> None:
    place = Place(AMD64, ARM64)
    first, second = place.read(
        index({AMD64: 1, ARM64: 1, RISCV64: 1}), index({AMD64: 1, ARM64: 1, RISCV64: 2})
    )
    assert isinstance(first, ImageRead)
    assert isinstance(second, ImageRead)
    assert first.content == second.content
    assert first.digest != second.digest
    assert len(place.registry.asked("GET", "/manifests/")) == 3 + 1


# --- what labels say ------------------------------------------------------------------------------------


@settings(deadline=None)
@given(
    present=st.dictionaries(st.sampled_from(ALL), st.integers(0, 2), min_size=1),
    recorded=st.dictionaries(st.sampled_from(ALL), st.integers(0, 2), min_size=1),
)
def test_a_label_is_fresh_if_each_platform_names_the_present_content(
    present: dict[str, int], recorded: dict[str, int]
) -> None:
    def version(texts: dict[str, int]) -> str:
        contents = {platform: content_of(picture(platform, str(text))) for platform, text in texts.items()}
        return join_platforms(contents)

    is_fresh = all(present.get(platform) == text for platform, text in recorded.items())
    assert is_part_of(version(recorded), version(present)) == is_fresh


def test_a_build_for_one_platform_may_read_an_image_of_another() -> None:
    compiler = {platform: content_of(picture(platform, "go")) for platform in (AMD64, ARM64)}
    read_by_all = join_platforms(dict.fromkeys((AMD64, ARM64), compiler[AMD64]))
    assert is_part_of(read_by_all, join_platforms(compiler))


def test_labels_are_read_on_each_platform() -> None:
    (reading,) = Place(AMD64, ARM64).read(
        make_index(
            {
                AMD64: picture(AMD64, "1", {REFERENCE: "a"}),
                ARM64: picture(ARM64, "1", {REFERENCE: "b", "r.example.com/tool:1": "c"}),
            }
        )
    )
    assert isinstance(reading, ImageRead)
    assert reading.inputs == {REFERENCE: f"{AMD64}=a,{ARM64}=b", "r.example.com/tool:1": "c"}


# --- the whole service ----------------------------------------------------------------------------------


class Several(Whole):
    """A group whose images are for amd64 and arm64, in a registry; Debian's are for riscv64 too."""

    def __init__(self, store_url: str) -> None:
        self.registry = FakeRegistry()
        self.stored: dict[str, dict[str, Stored]] = {}
        #: For which platforms projects build, where not for both.
        self.built_for: dict[str, tuple[str, ...]] = {}
        super().__init__(store_url)
        self.policy = PolicySettings(retry=(), quiet=Duration(0), platforms=(AMD64, ARM64))

    def set_image(self, reference: str, content: str, inputs: dict[str, str]) -> None:
        assert not inputs, "images of others say nothing of theirs"
        self.move(reference, dict.fromkeys(ALL, content))

    def move(self, reference: str, texts: Mapping[str, str], bases: Sequence[str] | None = None) -> None:
        """Push an image; with bases, it says of each platform what it was built from there."""
        images = {}
        for platform, text in texts.items():
            label = None
            if bases is not None:
                label = {base: content_of(self.stored[base][platform]) for base in bases}
            images[platform] = picture(platform, f"{reference} {text} {label}", label)
        self.stored[reference] = {**self.stored.get(reference, {}), **images}
        parsed = parse_reference(reference)
        self.registry.push(parsed.path, make_index(self.stored[reference]), parsed.tag or "")

    def _publish(self, name: str, _salt: str = "", _branch: str = "main") -> None:
        # What is built of the same bases is the same.
        platforms = self.built_for.get(name, (AMD64, ARM64))
        self.move(f"{REGISTRY}/images/{name}:latest", dict.fromkeys(platforms, name), self.bases(name))

    def begin(self, store: Store) -> None:
        hosts: dict[str, FakeHost] = dict.fromkeys((REGISTRY, "registry-1.docker.io"), self.registry)
        # Without memory, as after a start; nothing has to be closed.
        client = RegistryClient(transport=Network(hosts))
        self.reader = RegistryImages(client, self.policy.parsed_platforms(), store)

    async def read(self, reference: str) -> Reading:
        return await self.reader.read(reference)


def is_fresh(shown: dict[str, SourceStatus]) -> bool:
    return len(shown) == 4 and all(one.state == "fresh" for one in shown.values())


async def followed(service: View) -> None:
    """Wait until all hints were followed up."""
    for _ in range(500):
        if not await service._ports.store.hints(1):
            return
        await asyncio.sleep(0.02)
    raise AssertionError("hints wait")


def group(folder: Path) -> Several:
    whole = Several(store_at(folder))
    whole.add("base", "debian:bookworm")
    whole.add("left", "base")
    whole.add("right", "base")
    return whole


def test_what_moves_for_a_platform_that_is_not_in_use_starts_nothing(tmp_path: Path) -> None:
    async def main() -> None:
        whole = group(tmp_path)
        async with whole.serving() as service:
            await until(service, is_fresh)
            pulls = len(whole.registry.asked("GET", "/debian/manifests/"))
            for number in range(3):
                whole.move(DEBIAN, {RISCV64: f"moved {number}"})
                await reconcile(service)
                await followed(service)
                await until(service, is_fresh)
            assert whole.built == []
            assert len(whole.registry.asked("GET", "/debian/manifests/")) == pulls + 3

    asyncio.run(main())


def test_what_moves_for_any_platform_in_use_builds_the_chain_once(tmp_path: Path) -> None:
    async def main() -> None:
        whole = group(tmp_path)
        async with whole.serving() as service:
            await until(service, is_fresh)
            for platform in (ARM64, AMD64):
                whole.move(DEBIAN, {platform: "moved"})
                await reconcile(service)
                await until(service, lambda shown: is_fresh(shown) and len(whole.built) >= 3)
                assert sorted(whole.built) == ["base", "left", "right"]
                whole.built.clear()

    asyncio.run(main())


def test_an_image_for_fewer_platforms_than_its_base_is_fresh_after_one_build(tmp_path: Path) -> None:
    async def main() -> None:
        whole = Several(store_at(tmp_path))
        whole.built_for = dict.fromkeys(("base", "left", "right"), (AMD64,))
        whole.add("base", "debian:bookworm")
        whole.add("left", "base")
        whole.add("right", "base")
        async with whole.serving() as service:
            await until(service, is_fresh)
            for number, platform in enumerate((ARM64, AMD64)):
                whole.move(DEBIAN, {platform: f"moved {number}"})
                await reconcile(service)
                await until(service, lambda shown: is_fresh(shown) and len(whole.built) >= 1)
                await followed(service)
            # The first move is of no concern to its content, and goes no further.
            await until(service, lambda shown: is_fresh(shown) and len(whole.built) >= 4)
            assert whole.built[0] == "base"
            assert sorted(whole.built[1:]) == ["base", "left", "right"]

    asyncio.run(main())


def test_an_image_that_is_behind_on_one_platform_only_is_built(tmp_path: Path) -> None:
    """Here the store is empty: what the label says is all that is known."""

    async def main() -> None:
        whole = group(tmp_path)
        whole.move(DEBIAN, {ARM64: "moved"})
        async with whole.serving() as service:
            await until(service, lambda shown: is_fresh(shown) and len(whole.built) >= 3)
            assert sorted(whole.built) == ["base", "left", "right"]

    asyncio.run(main())


def test_after_a_restart_each_image_costs_one_head_and_nothing_else(tmp_path: Path) -> None:
    async def main() -> None:
        whole = group(tmp_path)
        async with whole.serving() as service:
            await until(service, is_fresh)
        assert len(whole.registry.asked("GET", "/manifests/")) == 4 * 3
        whole.registry.requests.clear()
        async with whole.serving() as service:
            await until(service, is_fresh)
            await reconcile(service)
            await followed(service)
        assert whole.registry.asked("GET") == []
        assert {request.url.path for request in whole.registry.asked("HEAD")} == {
            "/v2/library/debian/manifests/bookworm",
            *(f"/v2/images/{name}/manifests/latest" for name in ("base", "left", "right")),
        }
        assert whole.built == []

    asyncio.run(main())
