"""Promotion: what is refused, and that a name is in all registries or in none."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import httpx2
import pytest
import stamina
from hypothesis import given, settings
from hypothesis import strategies as st

from imagechain.images.everywhere import NotEverywhereError, Written
from imagechain.images.promote import (
    PromotionRefusedError,
    check_deployment,
    names_to_write,
    promote,
    remove,
)
from imagechain.images.tags import Pipeline
from imagechain.refs import parse_reference
from imagechain.registry import RegistryClient, RegistryError, WritableRepository
from registry.fakes import FakeRegistry, Network, answers, drops, error
from registry.pictures import Stored, make_image, make_index

T = TypeVar("T")
HOSTS = ("own.example.com", "public.example.com", "internal.example.com")
PATH = "group/app"
TESTED = make_index({"linux/amd64": make_image(labels={"of": "amd64"}), "linux/arm64": make_image()})
OLD = make_image(labels={"age": "old"})
OTHER = make_image(labels={"other": "yes"})


class World:
    """Registries that all have the image of pipeline 7, gated, and an older one in production."""

    def __init__(self, count: int = 3, *, old: bool = True) -> None:
        self.registries = {host: FakeRegistry() for host in HOSTS[:count]}
        for registry in self.registries.values():
            for tag in ("p-7", "g-7"):
                registry.push(PATH, TESTED, tag)
            if old:
                registry.push(PATH, OLD, "production")

    def __getitem__(self, number: int) -> FakeRegistry:
        return self.registries[HOSTS[number]]

    def ask(self, question: Callable[[list[WritableRepository]], Awaitable[T]]) -> T:
        async def run() -> T:
            with stamina.set_testing(True, attempts=3, cap=True):
                async with RegistryClient(transport=Network(self.registries)) as client:
                    return await question(
                        [client.direct(parse_reference(f"{host}/{PATH}")) for host in self.registries]
                    )

        return asyncio.run(run())

    def promote(
        self,
        names: Sequence[str] = ("production",),
        *,
        tested_digest: str = TESTED.digest,
        dry_run: bool = False,
    ) -> tuple[Written, ...]:
        return self.ask(
            lambda places: promote(
                places, "g-7", names, tested_digest=tested_digest, same_as="p-7", dry_run=dry_run
            )
        )

    def production(self) -> list[str | None]:
        return [registry.tags[PATH].get("production") for registry in self.registries.values()]


def test_the_tested_manifest_gets_the_name_in_all_registries() -> None:
    world = World()
    written = world.promote()
    assert world.production() == [TESTED.digest] * 3
    # The job's own registry, where others look, comes last.
    assert [one.image for one in written] == [f"{host}/{PATH}" for host in (*HOSTS[1:], HOSTS[0])]
    assert {one.outcome for one in written} == {"written"}


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_promotion_takes_two_requests_to_each_registry_and_carries_no_layer(count: int) -> None:
    world = World(count)
    world.promote()
    for registry in world.registries.values():
        assert [request.method for request in registry.requests] == ["GET", "PUT"]
        assert not registry.asked(where="/blobs/")


def test_the_bytes_are_those_of_the_tested_manifest() -> None:
    world = World()
    world.promote()
    for registry in world.registries.values():
        (request,) = registry.asked("PUT")
        assert request.content == TESTED.raw


def test_promoting_again_keeps_everything_and_says_so() -> None:
    world = World()
    world.promote()
    assert [one.outcome for one in world.promote()] == ["kept", "kept", "written"]
    assert world.production() == [TESTED.digest] * 3


def test_two_promotions_at_once_end_with_the_same_everywhere() -> None:
    world = World()

    async def twice(places: list[WritableRepository]) -> None:
        both = (promote(places, "g-7", ["production"], tested_digest=TESTED.digest) for _ in range(2))
        await asyncio.gather(*both)

    world.ask(twice)
    assert world.production() == [TESTED.digest] * 3


def test_a_dry_run_reads_and_writes_nothing() -> None:
    world = World()
    written = world.promote(dry_run=True)
    assert {one.outcome for one in written} == {"planned"}
    assert world.production() == [OLD.digest] * 3
    assert not any(registry.asked("PUT") for registry in world.registries.values())


# --- what is refused ------------------------------------------------------------------------------------


def test_an_image_that_did_not_pass_the_gate_is_refused() -> None:
    world = World()
    del world[0].tags[PATH]["g-7"]
    with pytest.raises(PromotionRefusedError, match=r"g-7.*passed its tests"):
        world.promote()
    assert world.production() == [OLD.digest] * 3


def test_an_image_that_is_not_the_tested_one_is_refused() -> None:
    world = World()
    world[0].push(PATH, OTHER, "g-7")
    with pytest.raises(PromotionRefusedError, match=f"{OTHER.digest}.*{TESTED.digest} was tested"):
        world.promote()
    assert world.production() == [OLD.digest] * 3


@pytest.mark.parametrize("moved", ["g-7", "p-7"])
def test_where_the_digest_was_not_handed_on_gate_and_build_have_to_agree(moved: str) -> None:
    world = World()
    assert world.promote(tested_digest="")
    world[0].push(PATH, OTHER, moved)
    with pytest.raises(PromotionRefusedError, match="p-7 names"):
        world.promote(tested_digest="")


def test_a_build_that_is_gone_is_refused_where_the_digest_was_not_handed_on() -> None:
    world = World()
    del world[0].tags[PATH]["p-7"]
    with pytest.raises(PromotionRefusedError, match="p-7"):
        world.promote(tested_digest="")


def pipeline(**facts: object) -> Pipeline:
    usual = {"id": "7", "kind": "branch", "ref": "main", "is_default_branch": True, "is_protected": True}
    return Pipeline(**{**usual, "environment": "production", **facts})  # type: ignore[arg-type]


GIT_TAG = {"kind": "tag", "ref": "v1", "is_default_branch": False}
MERGE_REQUEST = {"kind": "merge-request", "is_default_branch": False, "merge_request": "3"}


def test_the_protected_default_branch_and_protected_git_tags_reach_production() -> None:
    check_deployment(pipeline(), ())
    check_deployment(pipeline(**GIT_TAG), ())


@pytest.mark.parametrize(
    ("facts", "refs", "message"),
    [
        (MERGE_REQUEST, (), "merge request (number 3) must not reach"),
        ({**MERGE_REQUEST, "environment": "production/app"}, ("*",), "must not reach"),
        ({"is_default_branch": False, "ref": "fix"}, (), "the default branch and git tags may"),
        ({"is_default_branch": False, "ref": "fix"}, ("main", "release-*"), "the refs main, release-*"),
        ({"ref": "main"}, ("release-*",), "the refs release-*"),
        ({"is_protected": False}, (), "is not protected"),
        ({**GIT_TAG, "is_protected": False}, (), "the tag 'v1' is not protected"),
        ({"is_trial": True}, (), "only tries its image"),
    ],
)
def test_nobody_else_reaches_production(
    facts: dict[str, object], refs: tuple[str, ...], message: str
) -> None:
    with pytest.raises(PromotionRefusedError, match=re.escape(message)):
        check_deployment(pipeline(**facts), refs)


def test_refs_of_the_settings_reach_production() -> None:
    check_deployment(pipeline(ref="release-1", is_default_branch=False), ("release-*",))


def test_a_merge_request_reaches_its_own_environment() -> None:
    check_deployment(pipeline(**{**MERGE_REQUEST, "environment": "review/3"}), ())


@settings(deadline=None)
@given(st.booleans(), st.booleans(), st.lists(st.sampled_from(["*", "main", "**"])), st.booleans())
def test_no_settings_let_a_merge_request_reach_production(
    is_protected: bool, is_trial: bool, refs: list[str], is_below: bool
) -> None:
    claimed = pipeline(
        **MERGE_REQUEST | {"environment": "production/x" if is_below else "production"},
        is_protected=is_protected,
        is_trial=is_trial,
    )
    with pytest.raises(PromotionRefusedError, match="merge request"):
        check_deployment(claimed, refs)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({"environment": ""}, ("p-7", ("latest", "g-7"))),
        ({"environment": "production"}, ("g-7", ("production",))),
        ({**MERGE_REQUEST, "environment": ""}, ("p-7", ("g-7",))),
        ({**MERGE_REQUEST, "environment": "review/3"}, ("g-7", ("mr-3",))),
    ],
)
def test_success_and_deployments_have_their_own_names(
    facts: dict[str, object], expected: tuple[str, tuple[str, ...]]
) -> None:
    assert names_to_write(pipeline(**facts)) == expected


# --- all or none ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [0, 1, 2])
@pytest.mark.parametrize("fault", [drops, answers(500), lambda _: error(403, "DENIED"), answers(429)])
def test_a_registry_that_refuses_leaves_nothing_promoted_anywhere(
    number: int, fault: Callable[[httpx2.Request], httpx2.Response]
) -> None:
    world = World()
    world[number].fault(fault, method="PUT")
    with pytest.raises(NotEverywhereError, match=r"Nothing (is|was) changed") as caught:
        world.promote()
    assert HOSTS[number] in str(caught.value)
    assert world.production() == [OLD.digest] * 3


@pytest.mark.parametrize("number", [0, 1, 2])
def test_an_answer_that_is_lost_does_not_undo_what_was_written(number: int) -> None:
    world = World()

    def written_and_dropped(request: httpx2.Request) -> httpx2.Response:
        world[number].answer(request)
        return drops(request)

    world[number].fault(written_and_dropped, method="PUT")
    world.promote()
    assert world.production() == [TESTED.digest] * 3


def test_a_registry_that_dies_while_it_is_written_to_is_named() -> None:
    world = World()
    world[0].fault(drops, method="PUT")
    world[0].fault(drops, method="HEAD")
    with pytest.raises(NotEverywhereError, match=f"whether {HOSTS[0]}/{PATH}:production was written"):
        world.promote()
    assert world.production()[1:] == [OLD.digest] * 2


def test_a_login_without_the_right_to_write_is_told_so() -> None:
    world = World(1)
    world[0].fault(lambda _: error(401, "UNAUTHORIZED"), method="PUT")
    world[0].fault(lambda _: error(403, "DENIED"), method="PUT")
    with pytest.raises(NotEverywhereError):
        world.promote()
    world[0].faults.pop(0)
    with pytest.raises(NotEverywhereError, match=r"does not let this login write.*Nothing was changed"):
        world.promote()


def test_a_registry_that_cannot_be_asked_stops_everything_before_the_first_write() -> None:
    world = World()
    world[2].fault(drops)
    with pytest.raises(NotEverywhereError, match="Nothing was changed"):
        world.promote()
    assert not any(registry.asked("PUT") for registry in world.registries.values())


def test_a_registry_without_the_image_leaves_nothing_promoted() -> None:
    world = World()
    world[2].manifests.clear()
    world[2].tags[PATH].clear()
    with pytest.raises(NotEverywhereError, match="push the image there first"):
        world.promote()
    assert world.production()[:2] == [OLD.digest] * 2


def test_a_name_that_was_new_is_removed_again() -> None:
    world = World(old=False)
    world[0].fault(answers(500), method="PUT")
    with pytest.raises(NotEverywhereError, match="was put back"):
        world.promote()
    assert world.production() == [None] * 3


def test_what_cannot_be_undone_is_named() -> None:
    world = World()
    world[0].fault(answers(500), method="PUT")

    def refuses_old(request: httpx2.Request) -> httpx2.Response:
        return error(500, "UNKNOWN") if request.content == OLD.raw else world[1].answer(request)

    world[1].fault(refuses_old, method="PUT")
    with pytest.raises(NotEverywhereError) as caught:
        world.promote()
    message = str(caught.value)
    assert "could not be undone everywhere" in message
    assert f"{HOSTS[1]}/{PATH}:production should name {OLD.digest} again" in message
    assert world.production() == [OLD.digest, TESTED.digest, OLD.digest]


def test_several_names_are_all_put_back() -> None:
    world = World()
    world[0].fault(answers(500), method="PUT", where="/v1")
    with pytest.raises(NotEverywhereError):
        world.promote(names=("production", "v1"))
    assert world.production() == [OLD.digest] * 3
    assert all("v1" not in registry.tags[PATH] for registry in world.registries.values())


def test_a_promotion_that_is_interrupted_is_put_back() -> None:
    world = World()

    async def interrupted(places: list[WritableRepository]) -> None:
        task = asyncio.ensure_future(promote(places, "g-7", ["production"], tested_digest=TESTED.digest))

        def cancel(request: httpx2.Request) -> httpx2.Response:
            task.cancel()
            return answers(500)(request)

        world[0].fault(cancel, method="PUT")
        with pytest.raises(asyncio.CancelledError):
            await task

    world.ask(interrupted)
    assert world.production() == [OLD.digest] * 3


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_whatever_fails_once_the_names_are_all_new_or_all_old(data: st.DataObject) -> None:
    world = World(data.draw(st.integers(1, 3)), old=data.draw(st.booleans()))
    before = world.production()
    for registry in world.registries.values():
        for _ in range(data.draw(st.integers(0, 3))):
            method = data.draw(st.sampled_from(["GET", "PUT", "HEAD"]))
            reply = data.draw(st.sampled_from([drops, answers(500), answers(418)]))
            registry.fault(reply, method=method, times=1)
    failure = ""
    try:
        world.promote()
    except (NotEverywhereError, PromotionRefusedError, RegistryError) as error:
        failure = str(error)
    expected = before if failure else [TESTED.digest] * len(before)
    assert world.production() == expected or "could not be undone" in failure


# --- removing -------------------------------------------------------------------------------------------


def test_the_tag_of_a_merge_request_is_removed_where_it_is() -> None:
    world = World()
    for number in (0, 2):
        world[number].push(PATH, TESTED, "mr-3")
    assert world.ask(lambda places: remove(places, "mr-3")) == ()
    assert all("mr-3" not in registry.tags[PATH] for registry in world.registries.values())
    assert world.production() == [OLD.digest] * 3


def test_a_registry_that_deletes_no_tags_is_named() -> None:
    world = World(1)
    world[0].deletes_tags = False
    world[0].push(PATH, TESTED, "mr-3")
    (left,) = world.ask(lambda places: remove(places, "mr-3"))
    assert "does not delete mr-3" in left


def test_stored_images_of_this_file_differ() -> None:
    images: list[Stored] = [TESTED, OLD, OTHER]
    assert len({image.digest for image in images}) == 3
