"""Registries that fail, lie and refuse. Whatever happens, "unknown" is never told as "absent"."""

import asyncio
import gzip
import json
from collections.abc import Awaitable, Callable
from typing import TypeVar

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagechain.circuit import FAILURES_MAX
from imagechain.config import RegistrySettings
from imagechain.refs import Platform, parse_reference
from imagechain.registry import (
    AbsentError,
    DeniedError,
    DownError,
    NotAnImageError,
    RateLimitedError,
    RegistryClient,
    RegistryError,
    ServerFailedError,
    UncheckedError,
    UnexpectedReplyError,
    UnreachableError,
    UntrustedReplyError,
)
from imagechain.registry import client as client_module
from registry.fakes import FakeClock, FakeHost, FakeRegistry, Network, answers, drops, error
from registry.pictures import make_image, make_index, sha256

T = TypeVar("T")
HOST = "registry.example.com"
BASE = parse_reference(f"{HOST}/group/base")
AMD64 = Platform("linux", "amd64")
IMAGE = make_image(labels={"a": "b"}, layers=[b"layer"])


class World:
    """A client, a registry with one image, and time."""

    def __init__(self, *, leaves_reserve: bool = False, **settings: object) -> None:
        self.leaves_reserve = leaves_reserve
        self.clock = FakeClock()
        self.registry = FakeRegistry()
        self.registry.push("group/base", IMAGE, "latest")
        self.hosts: dict[str, FakeHost] = {HOST: self.registry}
        self.network = Network(self.hosts)
        self.settings = {HOST: RegistrySettings(**settings)}  # type: ignore[arg-type]

    def ask(self, question: Callable[[RegistryClient], Awaitable[T]]) -> T:
        async def run() -> T:
            async with RegistryClient(
                settings=self.settings,
                leaves_reserve=self.leaves_reserve,
                transport=self.network,
                clock=self.clock,
                sleep=self.clock.sleep,
            ) as client:
                return await question(client)

        return asyncio.run(run())


@pytest.fixture
def world() -> World:
    return World()


# --- failures that pass ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fault", [drops, answers(500), answers(502), answers(503), answers(504), answers(408)]
)
def test_a_failure_that_passes_is_not_noticed(
    world: World, fault: Callable[[httpx2.Request], httpx2.Response]
) -> None:
    world.registry.fault(fault, times=2)
    assert world.ask(lambda client: client.image(BASE, AMD64)).digest == IMAGE.digest


def test_a_registry_that_stays_down_is_tried_a_few_times_and_then_unreachable(world: World) -> None:
    world.registry.fault(drops)
    with pytest.raises(UnreachableError, match=HOST) as caught:
        world.ask(lambda client: client.head(BASE))
    assert caught.value.kind == "retryable"
    assert len(world.registry.requests) == 3


def test_a_registry_that_keeps_failing_says_so(world: World) -> None:
    world.registry.fault(answers(500))
    with pytest.raises(ServerFailedError, match="500"):
        world.ask(lambda client: client.head(BASE))
    assert len(world.registry.requests) == 3


def test_an_unknown_host_is_unreachable_and_not_absent() -> None:
    world = World()
    with pytest.raises(UnreachableError, match=r"nowhere\.example\.com"):
        world.ask(lambda client: client.head(parse_reference("nowhere.example.com/base")))


@settings(max_examples=60, deadline=None)
@given(
    st.just(404) | st.integers(300, 599),
    st.booleans(),
    st.sampled_from([b"", b"<html>", b"{}", b"[]", b'{"errors":[]}']),
)
def test_no_status_but_the_404_of_a_registry_is_ever_absent(status: int, header: bool, body: bytes) -> None:
    world = World()
    versions = {"docker-distribution-api-version": "registry/2.0"} if header else {}
    world.registry.fault(answers(status, versions, content=body))
    with pytest.raises(RegistryError) as caught:
        world.ask(lambda client: client.head(BASE))
    assert isinstance(caught.value, AbsentError) == (status == 404 and header)
    assert HOST in str(caught.value)


# --- HEAD -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [400, 403, 405, 501])
def test_where_head_is_forbidden_the_manifest_is_fetched_and_that_is_remembered(
    world: World, status: int
) -> None:
    world.registry.fault(answers(status), method="HEAD")

    async def three_times(client: RegistryClient) -> set[str]:
        return {(await client.head(BASE)).digest for _ in range(3)}

    assert world.ask(three_times) == {IMAGE.digest}
    assert [request.method for request in world.registry.requests] == ["HEAD", "GET", "GET", "GET"]


def test_a_registry_without_head_is_asked_for_one_again_after_an_hour(world: World) -> None:
    world.registry.fault(answers(405), method="HEAD", times=1)

    async def later(client: RegistryClient) -> None:
        await client.head(BASE)
        world.clock.now += 3601
        await client.head(BASE)

    world.ask(later)
    assert [request.method for request in world.registry.requests] == ["HEAD", "GET", "HEAD"]


@pytest.mark.parametrize("digest", ["", "sha256:abc", "md5:" + "0" * 32, "latest"])
def test_a_head_without_a_usable_digest_leads_to_the_manifest(world: World, digest: str) -> None:
    world.registry.fault(answers(200, {"docker-content-digest": digest}), method="HEAD")
    assert world.ask(lambda client: client.head(BASE)).digest == IMAGE.digest


@pytest.mark.parametrize("code", ["MANIFEST_UNKNOWN", "NAME_UNKNOWN"])
def test_a_404_that_bears_no_mark_is_looked_at_by_a_get(world: World, code: str) -> None:
    world.registry.fault(answers(404), method="HEAD")
    world.registry.fault(lambda _: error(404, code), method="GET")
    with pytest.raises(AbsentError):
        world.ask(lambda client: client.head(BASE))
    world.registry.faults.pop()
    assert world.ask(lambda client: client.head(BASE)).digest == IMAGE.digest


def test_a_login_page_that_answers_everything_is_no_image(world: World) -> None:
    world.registry.fault(answers(200, {"content-type": "text/html"}, content=b"<html>Sign in</html>"))
    with pytest.raises(UntrustedReplyError):
        world.ask(lambda client: client.head(BASE))


def test_a_head_answers_with_the_digest_that_was_asked_for(world: World) -> None:
    world.registry.fault(answers(200, {"docker-content-digest": sha256(b"another")}), method="HEAD")
    pinned = parse_reference(f"{HOST}/group/base@{IMAGE.digest}")
    with pytest.raises(UntrustedReplyError, match="answers with"):
        world.ask(lambda client: client.head(pinned))


# --- lies -----------------------------------------------------------------------------------------------


def test_a_manifest_under_a_wrong_digest_is_refused(world: World) -> None:
    world.registry.fault(
        answers(200, {"docker-content-digest": sha256(b"another")}, content=IMAGE.raw),
        method="GET",
        where="manifests",
    )
    with pytest.raises(UntrustedReplyError, match="digest"):
        world.ask(lambda client: client.manifest(BASE))


def test_a_manifest_that_is_not_the_one_asked_for_is_refused(world: World) -> None:
    other = make_image(labels={"evil": "yes"})
    world.registry.fault(answers(200, content=other.raw), method="GET", where=IMAGE.digest)
    with pytest.raises(UntrustedReplyError, match="digest"):
        world.ask(lambda client: client.image(BASE, AMD64))


def test_a_config_with_other_bytes_is_refused(world: World) -> None:
    world.registry.fault(answers(200, content=b"{}"), where="/blobs/")
    with pytest.raises(UntrustedReplyError, match="digest"):
        world.ask(lambda client: client.image(BASE, AMD64))


def test_bytes_that_are_both_manifest_and_index_are_refused(world: World) -> None:
    both = json.loads(IMAGE.raw) | {"manifests": []}
    world.registry.fault(answers(200, content=json.dumps(both).encode()), method="GET")
    with pytest.raises(UntrustedReplyError, match="both"):
        world.ask(lambda client: client.manifest(BASE))


def test_a_part_that_is_missing_does_not_make_the_image_absent(world: World) -> None:
    world.registry.blobs.clear()
    with pytest.raises(ServerFailedError, match="missing"):
        world.ask(lambda client: client.image(BASE, AMD64))


def test_an_index_in_an_index_is_not_followed_for_ever(world: World) -> None:
    inner = make_index({"linux/amd64": IMAGE})
    world.registry.push("group/base", make_index({"linux/amd64": inner}), "latest")
    with pytest.raises(NotAnImageError, match="index in an index"):
        world.ask(lambda client: client.image(BASE, AMD64))


def test_a_list_of_tags_that_never_ends_is_refused(world: World) -> None:
    world.registry.fault(
        answers(200, {"link": '</v2/group/base/tags/list?n=1>; rel="next"'}, content=b'{"tags": ["x"]}')
    )
    world.settings = {HOST: RegistrySettings(requests_per_minute_max=1_000_000)}
    with pytest.raises(UntrustedReplyError, match="does not end"):
        world.ask(lambda client: client.tags(BASE))
    assert len(world.registry.requests) == 1000


def test_pages_without_tags_are_not_followed(world: World) -> None:
    world.registry.fault(
        answers(200, {"link": '</v2/group/base/tags/list?last=x>; rel="next"'}, content=b'{"tags": []}')
    )
    with pytest.raises(UntrustedReplyError, match="does not end"):
        world.ask(lambda client: client.tags(BASE))
    assert len(world.registry.requests) == 1


def test_a_link_to_another_host_is_asked_of_the_same_registry(world: World) -> None:
    evil = FakeHost()
    world.hosts["evil.example.com"] = evil
    world.registry.fault(
        answers(
            200,
            {"link": '<https://evil.example.com/v2/a/tags/list?last=x>; rel="next"'},
            content=b'{"tags": ["x"]}',
        ),
        times=1,
    )
    world.ask(lambda client: client.tags(BASE))
    assert evil.requests == []
    assert len(world.registry.requests) == 2


def test_a_repository_whose_tags_are_null_has_none(world: World) -> None:
    world.registry.fault(answers(200, content=b'{"name": "group/base", "tags": null}'))
    assert world.ask(lambda client: client.tags(BASE)) == []


@pytest.mark.parametrize(("where", "size"), [("manifests", 4), ("blobs", 8)])
def test_a_reply_that_is_too_large_is_refused(world: World, where: str, size: int) -> None:
    world.registry.fault(answers(200, content=b" " * (size * 1024 * 1024 + 1)), method="GET", where=where)
    with pytest.raises(UntrustedReplyError, match=str(size * 1024 * 1024)):
        world.ask(lambda client: client.image(BASE, AMD64))


def test_a_reply_that_is_packed_is_refused(world: World) -> None:
    world.registry.fault(
        answers(200, {"content-encoding": "gzip"}, content=gzip.compress(IMAGE.raw)), method="GET"
    )
    with pytest.raises(UntrustedReplyError, match="packs"):
        world.ask(lambda client: client.manifest(BASE))


def test_an_unexpected_status_is_a_bug_to_report(world: World) -> None:
    world.registry.fault(answers(418))
    with pytest.raises(UnexpectedReplyError, match="418") as caught:
        world.ask(lambda client: client.head(BASE))
    assert caught.value.kind == "bug"


def test_a_refusal_is_not_absent(world: World) -> None:
    world.registry.fault(lambda _: error(403, "DENIED"))
    with pytest.raises(DeniedError, match="podman login") as caught:
        world.ask(lambda client: client.head(BASE))
    assert isinstance(caught.value, UncheckedError)


# --- redirects ------------------------------------------------------------------------------------------


def test_a_blob_may_be_in_storage_elsewhere(world: World) -> None:
    storage = FakeHost()
    digest, config = sha256(IMAGE.blobs[0]), IMAGE.blobs[0]
    storage.fault(answers(200, content=config))
    world.hosts["storage.example.com"] = storage
    world.registry.fault(
        answers(307, {"location": f"https://storage.example.com/bucket/{digest}?signature=x"}),
        where="/blobs/",
    )
    assert world.ask(lambda client: client.image(BASE, AMD64)).labels == {"a": "b"}


def test_a_redirect_from_tls_to_plain_http_is_refused(world: World) -> None:
    world.registry.fault(answers(307, {"location": "http://storage.example.com/blob"}), where="/blobs/")
    with pytest.raises(UntrustedReplyError, match="TLS"):
        world.ask(lambda client: client.image(BASE, AMD64))


def test_redirects_in_a_circle_end(world: World) -> None:
    world.registry.fault(answers(302, {"location": "/v2/again"}))
    with pytest.raises(UntrustedReplyError, match="redirects"):
        world.ask(lambda client: client.head(BASE))


# --- what is asked, and how often -----------------------------------------------------------------------


def test_an_image_that_stays_costs_one_head(world: World) -> None:
    world.registry.push("group/base", make_index({"linux/amd64": IMAGE}), "latest")

    async def ten_times(client: RegistryClient) -> None:
        for _ in range(10):
            await client.image(BASE, AMD64)

    world.ask(ten_times)
    assert len(world.registry.asked("HEAD")) == 10
    assert len(world.registry.asked("GET")) == 3


def test_a_moved_index_with_the_same_image_costs_one_get(world: World) -> None:
    world.registry.push("group/base", make_index({"linux/amd64": IMAGE}), "latest")

    async def moved(client: RegistryClient) -> tuple[str, str]:
        before = await client.image(BASE, AMD64)
        world.registry.push(
            "group/base", make_index({"linux/amd64": IMAGE}, annotations={"moved": "yes"}), "latest"
        )
        world.registry.requests.clear()
        after = await client.image(BASE, AMD64)
        assert before.index_digest != after.index_digest
        assert after.annotations == {"moved": "yes"}
        return before.digest, after.digest

    before, after = world.ask(moved)
    assert before == after
    assert [request.method for request in world.registry.requests] == ["HEAD", "GET"]


def test_an_image_for_one_platform_is_read_once_for_all_who_ask(world: World) -> None:
    async def ask(client: RegistryClient) -> None:
        for platform in (AMD64, Platform("linux", "arm64"), AMD64):
            assert (await client.image(BASE, platform)).digest == IMAGE.digest

    world.ask(ask)
    assert len(world.registry.asked("GET")) == 2


def test_what_is_remembered_is_bounded_by_its_bytes(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    other = make_image(labels={"of": "another"})
    world.registry.push("group/base", other, "other")
    room = len(IMAGE.raw) + len(IMAGE.blobs[0])
    monkeypatch.setattr(client_module, "IMAGES_BYTES_MAX", room + 1)
    monkeypatch.setattr(client_module, "MANIFESTS_BYTES_MAX", len(IMAGE.raw) + 1)
    reference = parse_reference(f"{HOST}/group/base:other")

    async def ask(client: RegistryClient) -> list[int]:
        counts = []
        for asked in (BASE, BASE, reference, BASE):
            await client.image(asked, AMD64)
            counts.append(len(world.registry.asked("GET")))
        return counts

    assert world.ask(ask) == [2, 2, 4, 6]


@pytest.mark.parametrize("fault", [drops, answers(500)])
def test_a_registry_that_is_down_is_not_hammered_and_the_others_are_asked(
    world: World, fault: Callable[[httpx2.Request], httpx2.Response]
) -> None:
    other = world.hosts["other.example.com"] = FakeRegistry()
    other.push("group/base", IMAGE, "latest")
    world.registry.fault(fault)

    async def ask(client: RegistryClient) -> None:
        for _ in range(100):
            with pytest.raises(UncheckedError):
                await client.head(BASE)
        assert len(world.registry.requests) <= FAILURES_MAX + 1
        with pytest.raises(DownError, match=rf"{HOST} failed {FAILURES_MAX} times in a row") as told:
            await client.head(BASE)
        assert 0 < told.value.retry_after_seconds <= 60
        # It stands within sentences.
        assert str(told.value).endswith("s; look whether it is up")
        await client.head(parse_reference("other.example.com/group/base"))
        world.registry.faults.clear()
        world.clock.now += 60
        assert (await client.head(BASE)).digest == IMAGE.digest
        assert (await client.head(BASE)).digest == IMAGE.digest

    world.ask(ask)


def test_one_repository_on_which_a_registry_fails_does_not_make_it_count_as_down(world: World) -> None:
    world.registry.push("group/broken", IMAGE, "latest")

    async def ask(client: RegistryClient) -> None:
        for _ in range(FAILURES_MAX):
            with pytest.raises(ServerFailedError):
                await client.head(parse_reference(f"{HOST}/group/broken"))
        assert (await client.head(BASE)).digest == IMAGE.digest

    world.registry.fault(answers(500), where="/group/broken/")
    world.ask(ask)


def test_every_request_for_a_manifest_accepts_all_four_types(world: World) -> None:
    world.ask(lambda client: client.image(BASE, AMD64))
    asked = world.registry.asked(where="manifests")
    assert asked
    for request in asked:
        assert request.headers["accept"].count("application/vnd.") == 4


# --- limits ---------------------------------------------------------------------------------------------


def test_a_short_retry_after_is_waited_for(world: World) -> None:
    world.registry.fault(answers(429, {"retry-after": "7"}), times=1)
    assert world.ask(lambda client: client.head(BASE)).digest == IMAGE.digest
    assert sum(world.clock.slept) == pytest.approx(7)


def test_a_long_retry_after_is_told_and_nobody_asks_until_then(world: World) -> None:
    world.registry.fault(answers(429, {"retry-after": "120"}), times=1)

    async def again(client: RegistryClient) -> list[float]:
        waits = []
        for _ in range(3):
            with pytest.raises(RateLimitedError) as caught:
                await client.head(BASE)
            waits.append(caught.value.retry_after_seconds)
            world.clock.now += 30
        world.clock.now += 30
        assert (await client.head(BASE)).digest == IMAGE.digest
        return waits

    assert world.ask(again) == pytest.approx([120, 90, 60])
    assert len(world.registry.requests) == 2
    assert world.clock.slept == []


def test_a_429_that_does_not_say_how_long_closes_for_longer_each_time(world: World) -> None:
    world.registry.fault(answers(429), times=3)

    async def again(client: RegistryClient) -> list[float]:
        waits = []
        for _ in range(3):
            with pytest.raises(RateLimitedError) as caught:
                await client.head(BASE)
            waits.append(caught.value.retry_after_seconds)
            world.clock.now += caught.value.retry_after_seconds
        return waits

    assert world.ask(again) == pytest.approx([60, 120, 240])


@pytest.mark.parametrize(
    ("leaves_reserve", "left", "told"),
    [
        (True, 10, "grants 10 more pulls, which are left to hosts and builds"),
        (False, 0, "wants no pulls now"),
    ],
)
def test_a_quota_that_is_used_as_far_as_may_be_stops_pulls_and_not_heads(
    leaves_reserve: bool, left: int, told: str
) -> None:
    world = World(leaves_reserve=leaves_reserve)
    world.registry.quota = (100, left)

    async def ask(client: RegistryClient) -> None:
        assert (await client.head(BASE)).digest == IMAGE.digest
        with pytest.raises(RateLimitedError, match=told) as caught:
            await client.image(BASE, AMD64)
        assert caught.value.retry_after_seconds == pytest.approx(21600)
        world.registry.quota = (100, 60)
        assert (await client.image(BASE, AMD64)).labels == {"a": "b"}

    world.ask(ask)
    assert len(world.registry.asked("GET", "/manifests/")) == 1


@pytest.mark.parametrize(("leaves_reserve", "left"), [(True, 25), (False, 0)])
def test_many_pulls_at_once_use_a_quota_as_far_as_may_be_and_no_further(
    leaves_reserve: bool, left: int
) -> None:
    world = World(leaves_reserve=leaves_reserve, pulls_reserved_percent=25)
    world.registry.quota = (100, 60)
    for number in range(100):
        world.registry.push("group/base", make_image(labels={"of": str(number)}), str(number))

    async def pull(client: RegistryClient, number: int) -> bool:
        reference = parse_reference(f"{HOST}/group/base:{number}")
        try:
            await client.image(reference, AMD64)
        except RateLimitedError:
            return False
        return True

    async def many(client: RegistryClient) -> list[bool]:
        found = await asyncio.gather(*(pull(client, number) for number in range(50)))
        # What was not begun because others were under way may be now.
        return found + [await pull(client, number) for number in range(50, 100)]

    assert sum(world.ask(many)) == 60 - left
    assert world.registry.quota == (100, left)


def test_a_pull_that_fails_does_not_stay_under_way(world: World) -> None:
    world.registry.quota = (100, 1)
    world.registry.fault(drops, method="GET", times=2)
    assert world.ask(lambda client: client.image(BASE, AMD64)).digest == IMAGE.digest


def test_a_registry_gets_a_few_requests_at_the_same_time(world: World) -> None:
    async def many(client: RegistryClient) -> None:
        await asyncio.gather(*(client.head(BASE) for _ in range(100)))

    world.ask(many)
    assert world.network.under_way_max[HOST] == 8


def test_requests_keep_the_pace_of_the_settings() -> None:
    world = World(requests_per_minute_max=10)

    async def many(client: RegistryClient) -> None:
        await asyncio.gather(*(client.head(BASE) for _ in range(25)))

    world.ask(many)
    assert len(world.registry.requests) == 25
    assert sum(world.clock.slept) >= 60
