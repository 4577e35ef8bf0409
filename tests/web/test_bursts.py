"""A storm of hooks costs a bounded number of hints, refuses nothing, and loses nothing."""

import asyncio
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.testclient import TestClient

from imagechain.store import BURST_SECONDS, Hint, HintKind, Store, StoreBusyError
from imagechain.web import bursts, make_app
from imagechain.web.bursts import HINTS_PER_BURST_MAX, Burst, Bursts
from web.parts import API_TOKEN, HOOK_KEY, NOW, FakeService, pipeline_body, signed, with_token

ARRIVALS = st.lists(
    st.tuples(
        st.sampled_from([-50.0, 0.0, 0.5, 3.0, 9.9, 10.0, 30.0]),
        st.sampled_from([7, 8]),
        st.sampled_from(["pipeline", "push", "note", "deployment"]),
    ),
    max_size=40,
)


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def client(store: Store, service: FakeService, clock: Clock) -> Iterator[TestClient]:
    app = make_app(store, service, hook_key=HOOK_KEY, api_token=API_TOKEN, now=clock, machine_now=lambda: NOW)
    with TestClient(app) as client:
        yield client


def stored(store: Store) -> list[Hint]:
    return [found.hint for found in asyncio.run(store.hints(100_000))]


def send(client: TestClient, number: int, project_id: int = 7) -> int:
    body = pipeline_body(project_id, pipeline_id=number + 1)
    return client.post(
        "/hooks/gitlab", content=body, headers=signed(body, project_id, id=f"d{number}")
    ).status_code


@settings(deadline=None)
@given(arrivals=ARRIVALS)
def test_hooks_are_folded_exactly_when_too_many_of_a_project_came_in_a_span(
    arrivals: list[tuple[float, int, HintKind]],
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bursts, "HINTS_PER_BURST_MAX", 3)
        counted: Bursts[int] = Bursts()
        spans: dict[int, list[float]] = {}
        first_folded: dict[Burst, float] = {}
        now = NOW
        for seconds, project, kind in arrivals:
            now += seconds
            burst = counted.count(project, kind, now)
            span = spans.setdefault(project, [])
            if kind in {"note", "deployment"}:
                assert burst is None
                continue
            if span and not span[0] <= now < span[0] + BURST_SECONDS:
                span.clear()
            span.append(now)
            # What began the span counts, also where the clock went back since.
            assert (burst is not None) == (len(span) > 3)
            if burst is not None and now >= first_folded.setdefault(burst, now):
                # The hint is followed up so long after it was stored: after all that it stands for.
                assert now < first_folded[burst] + BURST_SECONDS


@settings(deadline=None)
@given(projects=st.lists(st.integers(1, 1_000), min_size=1, max_size=200))
def test_bursts_that_are_over_take_no_room(projects: list[int]) -> None:
    counted: Bursts[int] = Bursts()
    for project in projects:
        counted.count(project, "push", NOW)
    counted.count(0, "push", NOW + BURST_SECONDS)
    assert len(counted) == 1


def test_a_storm_is_answered_with_success_and_costs_one_hint_more(
    client: TestClient, store: Store, service: FakeService
) -> None:
    assert {send(client, number) for number in range(HINTS_PER_BURST_MAX + 50)} == {202}
    hints = stored(store)
    assert len(hints) == HINTS_PER_BURST_MAX + 1
    assert hints[-1] == Hint(kind="burst", project_id=7)
    assert service.wakes == HINTS_PER_BURST_MAX
    assert "imagechain_hooks_folded_total 50.0" in client.get("/metrics").text


def test_a_storm_of_one_project_leaves_the_others_alone_and_ends(
    client: TestClient, store: Store, clock: Clock
) -> None:
    for number in range(HINTS_PER_BURST_MAX + 5):
        send(client, number)
    assert send(client, 1_000, project_id=8) == 202
    assert stored(store)[-1] == Hint(kind="pipeline", project_id=8, pipeline_id=1_001)
    clock.now += BURST_SECONDS
    assert send(client, 1_001) == 202
    assert stored(store)[-1] == Hint(kind="pipeline", project_id=7, pipeline_id=1_002)


def test_hints_of_a_group_say_so_when_they_are_folded_too(client: TestClient, store: Store) -> None:
    body = pipeline_body()
    for number in range(HINTS_PER_BURST_MAX + 1):
        headers = signed(body, "images", id=f"d{number}")
        assert client.post("/hooks/gitlab/groups/images", content=body, headers=headers).status_code == 202
    assert stored(store)[-1] == Hint(kind="burst", project_id=7, group="images")


def test_a_forged_storm_costs_nothing_and_hides_nothing(client: TestClient, store: Store) -> None:
    for _ in range(HINTS_PER_BURST_MAX * 2):
        answer = client.post("/hooks/gitlab", content=pipeline_body(), headers=with_token(8))
        assert answer.status_code == 401
    assert stored(store) == []
    assert send(client, 1) == 202
    assert [hint.kind for hint in stored(store)] == ["pipeline"]


def test_a_hint_for_many_that_cannot_be_stored_is_tried_again_by_the_next(
    client: TestClient, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(HINTS_PER_BURST_MAX):
        send(client, number)

    async def fail(*_: object) -> bool:
        raise StoreBusyError("busy")

    with monkeypatch.context() as patch:
        patch.setattr(store, "add_hint", fail)
        assert send(client, 1_000) == 503
    assert send(client, 1_001) == 202
    assert [hint.kind for hint in stored(store)].count("burst") == 1
