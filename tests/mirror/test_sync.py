"""Mirroring between two registries in memory: what is asked, what is written, and what is never claimed."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import TypeVar

import httpx2
import pytest
import stamina
from hypothesis import given, settings
from hypothesis import strategies as st

from imagechain.config import MirrorSettings
from imagechain.hosts.check import check_all
from imagechain.hosts.values import Image, Moved
from imagechain.mirror.prune import Removal, carry_out, name_of_plan, plan_removals
from imagechain.mirror.sync import MirrorResult, Syncer
from imagechain.refs import parse_reference
from imagechain.registry import RegistryClient, RegistryError
from imagechain.registry.mirrors import Mirror, Registries, RegistryTable
from registry.fakes import FakeClock, FakeRegistry, Network, answers, drops, error
from registry.pictures import OCI_INDEX, Stored, make_image, make_index, sha256

T = TypeVar("T")
SOURCE, TARGET = "source.example.com", "target.example.com"
NOW = 1_767_225_600.0  # 2026-01-01T00:00:00Z


def hangs(request: httpx2.Request) -> httpx2.Response:
    raise httpx2.ReadTimeout("nothing came", request=request)


def an_index(name: str, *, base: bytes = b"base") -> Stored:
    return make_index(
        {
            f"linux/{arch}": make_image(
                architecture=arch, labels={"of": name}, layers=[base, f"{name} {arch}".encode()]
            )
            for arch in ("amd64", "arm64")
        }
    )


class World:
    """A source with three tags, an empty target, and time."""

    def __init__(self) -> None:
        self.source, self.target = FakeRegistry(), FakeRegistry()
        self.clock = FakeClock()
        self.now = NOW
        self.registries = Registries()
        for tag in ("16", "17", "17-alpine"):
            self.source.push("up/postgres", an_index(tag), tag)
        self.mirror: dict[str, object] = {"tags": ("*",)}
        #: As `mirror sync` asks registries; what hosts ask them with leaves nothing.
        self.leaves_reserve = True

    def settings(self, **more: object) -> MirrorSettings:
        names = {"source": f"{SOURCE}/up/postgres", "target": f"{TARGET}/mirror/postgres"}
        return MirrorSettings(**{**names, **self.mirror, **more})  # type: ignore[arg-type]

    def ask(self, question: Callable[[RegistryClient], Awaitable[T]]) -> T:
        async def run() -> T:
            with stamina.set_testing(True, attempts=3, cap=True):
                async with RegistryClient(
                    transport=Network({SOURCE: self.source, TARGET: self.target}),
                    registries=self.registries,
                    leaves_reserve=self.leaves_reserve,
                    clock=self.clock,
                    sleep=self.clock.sleep,
                ) as client:
                    return await question(client)

        return asyncio.run(run())

    def sync(self, *mirrors: MirrorSettings, dry_run: bool = False) -> list[MirrorResult]:
        async def run(client: RegistryClient) -> list[MirrorResult]:
            syncer = Syncer(client, now=lambda: self.now, dry_run=dry_run)
            found = await syncer.sync(mirrors or (self.settings(),))
            return [result for results in found.values() for result in results]

        self.source.requests.clear()
        self.target.requests.clear()
        return self.ask(run)

    def outcomes(self, *mirrors: MirrorSettings) -> dict[str, str]:
        return {result.source.rpartition(":")[2]: result.outcome for result in self.sync(*mirrors)}

    def tags(self, repository: str = "mirror/postgres") -> dict[str, str]:
        return self.target.tags.get(repository, {})


@pytest.fixture
def world() -> World:
    return World()


def pulls(registry: FakeRegistry) -> list[httpx2.Request]:
    return registry.asked("GET", "/manifests/")


def test_everything_is_copied_with_the_digests_of_the_source(world: World) -> None:
    assert world.outcomes() == {"16": "copied", "17": "copied", "17-alpine": "copied"}
    assert world.tags() == world.source.tags["up/postgres"]


def test_where_nothing_moved_nothing_is_pulled_and_nothing_written(world: World) -> None:
    world.sync()
    assert set(world.outcomes().values()) == {"same"}
    assert not pulls(world.source)
    assert len(world.source.asked("HEAD")) == len(world.target.asked("HEAD")) == 3
    assert {request.method for request in world.target.requests} == {"HEAD"}


def test_only_what_moved_is_copied(world: World) -> None:
    world.sync()
    world.source.push("up/postgres", an_index("new"), "17")
    assert world.outcomes() == {"16": "same", "17": "copied", "17-alpine": "same"}
    # The index, and the manifests of its two platforms.
    assert len(pulls(world.source)) == 3
    assert not world.source.asked("GET", sha256(b"base"))


def test_an_index_only_move_costs_one_pull(world: World) -> None:
    world.sync()
    index = an_index("16")
    again = make_index(
        {"linux/amd64": index.children[0], "linux/arm64": index.children[1]}, annotations={"a": "b"}
    )
    world.source.push("up/postgres", again, "16")
    assert world.outcomes()["16"] == "copied"
    assert len(pulls(world.source)) == 1
    assert not world.source.asked(where="/blobs/")


def test_what_was_seen_is_there_for_the_history(world: World) -> None:
    index = world.source.tags["up/postgres"]["17"]
    seen: list[list[tuple[str, str]]] = []

    async def run(client: RegistryClient) -> None:
        for _ in range(2):
            syncer = Syncer(client, now=lambda: world.now)
            await syncer.sync([world.settings(tags=("17",))])
            seen.append([(each.platform, each.index_digest or each.digest) for each in syncer.sightings])
            assert {(each.ref, each.seen_at) for each in syncer.sightings} == {
                (f"{SOURCE}/up/postgres:17", NOW)
            }

    world.ask(run)
    # Where an index is read, it tells of its platforms too.
    assert set(seen[0]) == {("", index), ("linux/amd64", index), ("linux/arm64", index)}
    assert seen[1] == [("", index)]


def test_what_a_tag_named_before_stays_under_a_dated_tag(world: World) -> None:
    world.sync()
    old = world.tags()["17"]
    world.source.push("up/postgres", an_index("new"), "17")
    world.now = NOW + 3661
    (moved,) = [result for result in world.sync() if result.outcome == "copied"]
    assert moved.previous == "17-20260101T010101Z"
    assert world.tags()["17-20260101T010101Z"] == old
    assert world.tags()["17"] == world.source.tags["up/postgres"]["17"]


def test_nothing_is_kept_where_nothing_is_to_be_kept(world: World) -> None:
    world.mirror["keep_previous"] = 0
    world.sync()
    world.source.push("up/postgres", an_index("new"), "17")
    world.sync()
    assert set(world.tags()) == {"16", "17", "17-alpine"}


def test_a_run_that_is_cut_off_leaves_no_second_dated_tag(world: World) -> None:
    world.sync()
    world.source.push("up/postgres", an_index("new"), "17")

    def refuses_the_name(request: httpx2.Request) -> httpx2.Response:
        is_name = request.url.path.endswith("/manifests/17")
        return error(500, "UNKNOWN") if is_name else world.target.answer(request)

    world.target.fault(refuses_the_name, method="PUT")
    for _ in range(3):
        world.now += 60
        assert world.outcomes()["17"] == "unknown"
    world.target.faults.clear()
    assert world.outcomes()["17"] == "copied"
    assert len([tag for tag in world.tags() if tag.startswith("17-2026")]) == 1


def test_a_dry_run_writes_nothing_and_pulls_nothing(world: World) -> None:
    assert {result.outcome for result in world.sync(dry_run=True)} == {"to copy"}
    assert not pulls(world.source)
    assert not world.tags()
    assert {request.method for request in world.target.requests} == {"HEAD"}


def test_tags_that_are_named_need_no_list(world: World) -> None:
    world.mirror["tags"] = ("16", "17")
    assert world.outcomes() == {"16": "copied", "17": "copied"}
    assert not world.source.asked(where="/tags/list")


def test_a_repository_may_be_called_otherwise(world: World) -> None:
    renamed = world.settings(target=f"{TARGET}/other/name", tags=("16",))
    world.sync(renamed)
    assert set(world.tags("other/name")) == {"16"}


def test_a_mirror_of_a_mirror_is_up_to_date_in_one_run(world: World) -> None:
    first = world.settings(tags=("16",))
    second = world.settings(source=first.target, target=f"{TARGET}/second", tags=("16",))
    assert [result.outcome for result in world.sync(second, first)] == ["copied", "copied"]
    assert world.tags("second") == world.tags()


def test_layers_that_another_repository_of_the_target_has_are_mounted(world: World) -> None:
    world.source.push("up/app", an_index("app"), "1")
    first = world.settings(tags=("16",))
    app = world.settings(source=first.target, target=f"{TARGET}/mirror/copy", tags=("16",))
    results = world.sync(first, app)
    assert (results[1].blobs, results[1].mounted) == (0, 5)
    assert len(world.source.asked("GET", sha256(b"base"))) == 1


def test_mirrors_of_this_host_do_not_answer_for_the_source(world: World) -> None:
    table = RegistryTable(prefix=SOURCE, mirror=(Mirror(location=f"{TARGET}/mirror"),))
    world.registries = Registries((table,))
    world.mirror["tags"] = ("16",)
    world.sync()
    world.source.push("up/postgres", an_index("new"), "16")
    assert world.outcomes() == {"16": "copied"}


# --- platforms ------------------------------------------------------------------------------------------


def test_platforms_that_are_not_wanted_are_left_out(world: World) -> None:
    world.mirror |= {"platforms": ("linux/arm64",), "tags": ("16",)}
    world.sync()
    children = world.source.manifests["up/postgres", world.source.tags["up/postgres"]["16"]].children
    arm64 = children[1].digest
    assert ("mirror/postgres", arm64) in world.target.manifests
    assert ("mirror/postgres", children[0].digest) not in world.target.manifests


def test_a_narrowed_image_that_did_not_move_costs_the_source_a_head(world: World) -> None:
    world.mirror |= {"platforms": ("linux/arm64",), "tags": ("16",)}
    world.sync()
    assert world.outcomes() == {"16": "same"}
    assert [request.method for request in world.source.requests] == ["HEAD"]
    world.mirror["platforms"] = ("linux/amd64",)
    assert world.outcomes() == {"16": "copied"}


def test_an_image_without_the_wanted_platforms_is_told(world: World) -> None:
    world.mirror |= {"platforms": ("linux/s390x",), "tags": ("16",)}
    (result,) = world.sync()
    assert (result.outcome, world.tags()) == ("failed", {})
    assert "linux/s390x" in result.message


def test_an_image_of_one_platform_is_copied_as_it_is(world: World) -> None:
    image = make_image()
    world.source.push("up/postgres", image, "single")
    world.mirror |= {"platforms": ("linux/amd64",), "tags": ("single",)}
    assert world.outcomes() == {"single": "copied"}
    assert world.outcomes() == {"single": "same"}
    assert world.tags() == {"single": image.digest}


# --- referrers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("has_api", [True, False])
def test_signatures_are_copied_where_they_are_wanted_also_those_made_later(
    world: World, has_api: bool
) -> None:
    world.source.has_referrers = has_api
    world.target.has_referrers = has_api
    world.mirror |= {"tags": ("16",), "referrers": True}
    world.sync()
    index = world.source.manifests["up/postgres", world.source.tags["up/postgres"]["16"]]
    signature = make_image(config_type="application/vnd.example.signature", subject=index)
    world.source.push("up/postgres", signature)
    listed = f"sha256-{index.digest.removeprefix('sha256:')}"
    if not has_api:
        world.source.push("up/postgres", make_index({"unknown/unknown": signature}), listed)
    cosign = make_image(labels={"cosign": "yes"})
    world.source.push("up/postgres", cosign, f"{listed}.sig")
    assert world.outcomes() == {"16": "same"}
    assert ("mirror/postgres", signature.digest) in world.target.manifests
    assert world.tags()[f"{listed}.sig"] == cosign.digest
    if not has_api:
        assert listed in world.tags()


# --- what could not be done is never claimed ------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "outcome"),
    [
        (drops, "unknown"),
        (answers(500), "unknown"),
        (answers(429, {"retry-after": "900"}), "unknown"),
        (hangs, "unknown"),
        (answers(401), "failed"),
        (lambda _: error(403, "DENIED"), "failed"),
        (answers(404), "failed"),
        (lambda _: error(404, "MANIFEST_UNKNOWN"), "absent"),
    ],
    ids=["drops", "500", "429", "hangs", "401", "403", "404 of a proxy", "404 of a registry"],
)
def test_a_source_that_does_not_say_is_never_up_to_date(
    world: World, fault: Callable[[httpx2.Request], httpx2.Response], outcome: str
) -> None:
    world.mirror["tags"] = ("16",)
    world.sync()
    world.source.fault(fault, where="/manifests/")
    (result,) = world.sync()
    assert result.outcome == outcome
    assert SOURCE in result.message
    assert set(world.tags()) == {"16"}


@pytest.mark.parametrize(
    ("method", "outcome"), [("HEAD", "unknown"), ("GET", "failed")], ids=["in the answer to HEAD", "of bytes"]
)
def test_a_source_that_lies_about_a_digest_changes_nothing(world: World, method: str, outcome: str) -> None:
    world.mirror["tags"] = ("16",)
    world.sync()
    before = world.tags()
    world.source.push("up/postgres", an_index("new"), "16")
    moved = world.source.tags["up/postgres"]["16"]
    lie = sha256(b"lie") if method == "HEAD" else moved
    headers = {"docker-content-digest": lie, "content-type": OCI_INDEX}
    world.source.fault(answers(200, headers, content=b"{}"), method=method, where="/manifests/")
    (result,) = world.sync()
    assert result.outcome == outcome
    assert lie in result.message
    assert world.tags() == before


@pytest.mark.parametrize("fault", [drops, answers(500)])
def test_a_target_that_does_not_say_is_never_up_to_date(
    world: World, fault: Callable[[httpx2.Request], httpx2.Response]
) -> None:
    world.sync()
    world.target.fault(fault)
    assert set(world.outcomes().values()) == {"unknown"}


def test_tags_that_cannot_be_listed_are_one_result_of_the_repository(world: World) -> None:
    world.source.fault(answers(500), where="/tags/list")
    (result,) = world.sync()
    assert (result.source, result.outcome) == (f"{SOURCE}/up/postgres", "unknown")


def test_one_broken_tag_does_not_stop_the_others(world: World) -> None:
    broken = world.source.tags["up/postgres"]["17"]
    world.source.fault(lambda _: error(404, "MANIFEST_UNKNOWN"), method="GET", where=broken)
    results = {result.source.rpartition(":")[2]: result for result in world.sync()}
    assert {tag: result.outcome for tag, result in results.items()} == {
        "16": "copied",
        "17": "unknown",
        "17-alpine": "copied",
    }
    assert f"a part of {broken} is missing" in results["17"].message


def test_the_last_pulls_of_a_quota_are_left_to_hosts(world: World) -> None:
    # Three tags have three manifests each, and seven pulls are not reserved.
    world.source.quota = (100, 17)
    results = world.sync()
    assert {result.outcome for result in results} <= {"copied", "unknown"}
    waiting = next(result for result in results if result.outcome == "unknown")
    assert "more pulls, which are left to hosts and builds" in waiting.message
    assert 10 <= world.source.quota[1] < 17
    # Tags are still looked at; what was copied is known to be the same, and nothing is claimed of the rest.
    again = {result.source: result.outcome for result in world.sync()}
    copied = {result.source for result in results if result.outcome == "copied"}
    assert {source for source, outcome in again.items() if outcome == "same"} == copied
    left = world.source.quota[1]
    assert left >= 10

    # A host at the same address still learns what the tag is now, and pulls it.
    world.leaves_reserve = False
    tag = waiting.source.rpartition(":")[2]
    image = world.source.manifests["up/postgres", world.source.tags["up/postgres"][tag]].children[0]
    running = {"app": [Image(id="old", digest=sha256(b"old"), architecture="amd64", os="linux")]}
    reference = parse_reference(waiting.source)
    found = world.ask(lambda client: check_all(client, {"app": reference}, running, {}, {}))
    assert isinstance(check := found["app"].check, Moved)
    assert check.platform_digest == image.digest
    assert world.source.quota == (100, left - 2)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_fails_every_name_is_whole_and_the_next_run_ends_it(data: st.DataObject) -> None:
    world = World()
    if data.draw(st.booleans()):
        world.sync()
        world.source.push("up/postgres", an_index("new"), "17")
    for registry in (world.source, world.target):
        for _ in range(data.draw(st.integers(0, 4))):
            method = data.draw(st.sampled_from(["GET", "PUT", "HEAD", "POST", "PATCH"]))
            reply = data.draw(st.sampled_from([drops, answers(500), answers(429, {"retry-after": "1"})]))
            registry.fault(reply, method=method, times=data.draw(st.integers(1, 9)))
    results = {result.source.rpartition(":")[2]: result for result in world.sync()}
    for tag, digest in world.tags().items():
        assert_whole(world.target, "mirror/postgres", digest)
        if tag in results and results[tag].outcome in {"same", "copied"}:
            assert digest == world.source.tags["up/postgres"][tag]
    world.source.faults.clear()
    world.target.faults.clear()
    world.clock.now += 10_000
    assert set(world.outcomes().values()) <= {"same", "copied"}
    assert world.source.tags["up/postgres"].items() <= world.tags().items()


def assert_whole(registry: FakeRegistry, repository: str, digest: str) -> None:
    wire = json.loads(registry.manifests[repository, digest].raw)
    for child in wire.get("manifests", ()):
        assert_whole(registry, repository, child["digest"])
    for blob in (*wire.get("layers", ()), *filter(None, [wire.get("config")])):
        assert (repository, blob["digest"]) in registry.blobs


# --- pruning --------------------------------------------------------------------------------------------


def plan(world: World, *mirrors: MirrorSettings, in_use: frozenset[str] = frozenset()) -> list[Removal]:
    async def run(client: RegistryClient) -> list[Removal]:
        return await plan_removals(client, Syncer(client, now=lambda: world.now), mirrors, in_use)

    return world.ask(run)


@pytest.fixture
def pruned(world: World) -> World:
    """A target with one tag that its source has no more."""
    world.mirror |= {"prune": True, "keep_previous": 1}
    world.sync()
    del world.source.tags["up/postgres"]["16"]
    return world


def test_nothing_is_planned_where_the_table_does_not_ask_for_it(pruned: World) -> None:
    assert plan(pruned, pruned.settings(prune=False)) == []


def test_a_tag_that_is_gone_is_planned_and_removed(pruned: World) -> None:
    removals = plan(pruned, pruned.settings())
    assert [removal.tag for removal in removals] == ["16"]
    done = pruned.ask(lambda client: carry_out(client, removals))
    assert [removal.outcome for removal in done] == ["removed"]
    assert set(pruned.tags()) == {"17", "17-alpine"}


@pytest.mark.parametrize("part", ["index", "platform", "image"])
def test_what_a_host_runs_is_kept_however_it_calls_it(pruned: World, part: str) -> None:
    index = pruned.target.manifests["mirror/postgres", pruned.tags()["16"]]
    child = an_index("16").children[1]
    names = {"index": index.digest, "platform": child.digest, "image": sha256(child.blobs[0])}
    in_use = frozenset({names[part].removeprefix("sha256:")})
    removals = plan(pruned, pruned.settings(), in_use=in_use)
    assert [removal.outcome for removal in removals] == ["kept"]
    pruned.ask(lambda client: carry_out(client, removals))
    assert "16" in pruned.tags()


def test_a_plan_is_named_by_what_it_removes(pruned: World) -> None:
    removals = plan(pruned, pruned.settings())
    name = name_of_plan(removals)
    assert name == name_of_plan(plan(pruned, pruned.settings()))
    del pruned.source.tags["up/postgres"]["17"]
    assert name_of_plan(plan(pruned, pruned.settings())) != name


def test_a_source_that_cannot_be_asked_makes_nothing_surplus(pruned: World) -> None:
    pruned.source.fault(answers(500))
    with pytest.raises(RegistryError):
        plan(pruned, pruned.settings())


def test_a_source_without_any_tags_makes_nothing_surplus(pruned: World) -> None:
    pruned.source.tags["up/postgres"].clear()
    assert plan(pruned, pruned.settings()) == []


def test_a_registry_that_deletes_no_tags_is_told(pruned: World) -> None:
    pruned.target.deletes_tags = False
    removals = plan(pruned, pruned.settings())
    (failed,) = pruned.ask(lambda client: carry_out(client, removals))
    assert failed.outcome == "failed"
    assert "does not delete 16" in failed.message
