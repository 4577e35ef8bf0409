"""What every store promises: on every database, and of the twin in memory that the simulation uses."""

import asyncio
import time
from collections.abc import Coroutine, Iterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import pytest

from imagechain.chain import BuildFinished, BuildStarted, ImageFound, Paused, Resumed, VersionRead
from imagechain.service.ports import Store as AnyStore
from imagechain.store import (
    BuildRow,
    Change,
    ErrandRow,
    Hint,
    HostRow,
    Intent,
    Lease,
    LeaseLostError,
    Memory,
    Store,
    StoreError,
    WayRow,
    open_store,
)
from sim.memory_store import MemoryStore
from store.postgresql import Server

pytestmark = pytest.mark.usefixtures("own_time")

R = TypeVar("R")
NOW = 1_700_000_000.0


def run(coroutine: Coroutine[Any, Any, R]) -> R:
    return asyncio.run(coroutine)


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    store = open_store(url)
    yield store
    store.close()


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def any_store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AnyStore]:
    if request.param == "memory":
        yield MemoryStore()
        return
    if request.param == "sqlite":
        url = f"sqlite:///{tmp_path}/imagechain.db"
    else:
        server = request.getfixturevalue("postgresql")
        assert isinstance(server, Server)
        url = server.database()
    store = open_store(url)
    yield store
    store.close()


def _lease(store: AnyStore, owner: str = "me", now: float = NOW) -> Lease:
    lease = run(store.take_lease(owner, 30, now))
    assert lease is not None
    return lease


def _intent(source: str = "images/app", id: str = "i1", project_id: int = 1) -> Intent:
    return Intent(
        id=id,
        source=source,
        project_id=project_id,
        at=NOW,
        inputs={"r.io/base": "v1"},
        cause="it moved",
        cascade=id,
        after_pipeline=9,
    )


OBSERVATIONS = (
    VersionRead(input="r.io/base:latest", version=None, at=NOW),
    VersionRead(input="r.io/base:latest", version="v1", at=NOW + 0.000_001),
    ImageFound(project="images/app", at=NOW, inputs=None, proven_stale=("r.io/base:latest",)),
    BuildStarted(
        project="images/app", build="7", at=NOW, inputs={"a": "b"}, cause="é \u2028 \x00 '\"", url="u"
    ),
    BuildFinished(
        project="images/app", build="7", at=NOW, outcome="failed", outputs={"x": None}, message="m"
    ),
    Paused(project=None, at=NOW, by="anna", reason="x"),
    Resumed(project=None, at=NOW),
)


# --- the inbox --------------------------------------------------------------------------------------------


def test_hints_come_back_in_the_order_of_arrival(any_store: AnyStore) -> None:
    sent = [
        Hint(kind="pipeline", project_id=2**63 - 1, pipeline_id=1),
        Hint(kind="push", project_id=1),
        Hint(kind="pause", source="images/app", by="anna", reason="é\x00\u2028", downstream=True),
    ]
    for number, hint in enumerate(sent):
        assert run(any_store.add_hint(hint, f"k{number}", NOW + number))
    found = run(any_store.hints(10))
    assert [item.hint for item in found] == sent
    assert [item.received_at for item in found] == [NOW, NOW + 1, NOW + 2]
    assert [item.id for item in found] == sorted({item.id for item in found})
    assert [item.hint for item in run(any_store.hints(2))] == sent[:2]


def test_a_key_is_taken_once_also_after_its_hint_was_followed_up(any_store: AnyStore) -> None:
    hint = Hint(kind="push", project_id=1)
    assert run(any_store.add_hint(hint, "k", NOW))
    assert not run(any_store.add_hint(hint, "k", NOW))
    (stored,) = run(any_store.hints(10))
    run(any_store.write(Change(hints_done=(stored.id,)), _lease(any_store)))
    assert run(any_store.hints(10)) == []
    assert not run(any_store.add_hint(hint, "k", NOW))
    assert run(any_store.hints(10)) == []


def test_of_many_alike_at_once_one_is_new(any_store: AnyStore) -> None:
    async def add() -> list[bool]:
        hint = Hint(kind="push", project_id=1)
        return list(await asyncio.gather(*(any_store.add_hint(hint, f"k{n % 10}", NOW) for n in range(200))))

    assert sum(run(add())) == 10
    assert len(run(any_store.hints(100))) == 10


def test_finishing_what_is_not_there_is_no_error(any_store: AnyStore) -> None:
    run(any_store.write(Change(hints_done=(17, 18)), _lease(any_store)))


# --- what the service knows -------------------------------------------------------------------------------


def test_an_empty_store_remembers_nothing(any_store: AnyStore) -> None:
    assert run(any_store.load()) == Memory(snapshot=b"", observations=(), intents=(), watermarks={})


def test_observations_come_back_as_they_were(any_store: AnyStore) -> None:
    run(any_store.write(Change(observations=OBSERVATIONS[:3]), _lease(any_store)))
    run(any_store.write(Change(observations=OBSERVATIONS[3:]), _lease(any_store)))
    assert run(any_store.load()).observations == OBSERVATIONS


def test_a_snapshot_takes_the_place_of_the_log_so_far(any_store: AnyStore) -> None:
    lease = _lease(any_store)
    run(any_store.write(Change(observations=OBSERVATIONS[:2]), lease))
    run(any_store.write(Change(observations=OBSERVATIONS[2:3], snapshot=b"\x00\xff"), lease))
    run(any_store.write(Change(observations=OBSERVATIONS[3:4]), lease))
    memory = run(any_store.load())
    assert (memory.snapshot, memory.observations) == (b"\x00\xff", OBSERVATIONS[2:4])


def test_intents_are_there_until_they_are_closed(any_store: AnyStore) -> None:
    lease = _lease(any_store)
    app, base = _intent(), _intent("images/base", "i2")
    run(any_store.write(Change(intents_opened=(app, base)), lease))
    assert run(any_store.load()).intents == (app, base)
    again = _intent(id="i3")
    run(any_store.write(Change(intents_closed=("i1",), intents_opened=(again,)), lease))
    assert run(any_store.load()).intents == (base, again)


def test_there_is_one_intent_at_a_time_for_a_project_and_another_for_one_that_took_its_path(
    store: Store,
) -> None:
    lease = _lease(store)
    left, there = _intent(), _intent(id="i2", project_id=2)
    run(store.write(Change(intents_opened=(left, there)), lease))
    assert run(store.load()).intents == (left, there)
    with pytest.raises(StoreError):
        run(store.write(Change(intents_opened=(_intent(id="i3"),)), lease))


def test_errands_are_replaced_by_what_became_of_them(any_store: AnyStore) -> None:
    lease = _lease(any_store)
    begun = ErrandRow(id="1-2-3", at=NOW, is_done=False, body="{}")
    other = ErrandRow(id="1-2-4", at=NOW + 1, is_done=False, body="[]")
    run(any_store.write(Change(errands=(begun, other)), lease))
    done = msgspec.structs.replace(begun, is_done=True, body='{"more": 1}')
    run(any_store.write(Change(errands=(done,)), lease))
    assert set(run(any_store.load()).errands) == {done, other}


def test_of_errands_that_are_done_the_latest_are_known(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imagechain.store.memory.ERRANDS_MAX", 2)
    lease = _lease(store)
    rows = [ErrandRow(id=str(n), at=NOW + n, is_done=n > 0, body="{}") for n in range(5)]
    for row in rows:
        run(store.write(Change(errands=(row,)), lease))
    assert [row.id for row in run(store.load()).errands] == ["0", "3", "4"]


def test_watermarks_are_set_by_name(any_store: AnyStore) -> None:
    lease = _lease(any_store)
    run(any_store.write(Change(watermarks={"a": 1.5, "b": NOW}), lease))
    run(any_store.write(Change(watermarks={"a": 0.1}), lease))
    assert run(any_store.load()).watermarks == {"a": 0.1, "b": NOW}


def test_a_change_is_written_whole_or_not_at_all(store: Store) -> None:
    lease = _lease(store)
    run(store.add_hint(Hint(kind="push", project_id=1), "k", NOW))
    (hint,) = run(store.hints(1))
    run(store.write(Change(intents_opened=(_intent(),)), lease))
    twice = Change(
        observations=OBSERVATIONS,
        snapshot=b"new",
        hints_done=(hint.id,),
        intents_opened=(_intent(),),
        builds=(BuildRow(id="1", source="images/app", status="running"),),
        watermarks={"a": 1.0},
    )
    with pytest.raises(StoreError):
        run(store.write(twice, lease))
    assert run(store.load()) == Memory(snapshot=b"", observations=(), intents=(_intent(),), watermarks={})
    assert run(store.hints(1)) == [hint]
    assert run(store.builds(1)) == []


# --- the lease --------------------------------------------------------------------------------------------


def test_the_lease_is_for_one_until_it_is_over(any_store: AnyStore) -> None:
    first = _lease(any_store, "one", NOW)
    assert run(any_store.take_lease("two", 30, NOW + 29)) is None
    second = run(any_store.take_lease("two", 30, NOW + 30))
    assert second is not None
    assert second.number > first.number
    assert second.expires_at == NOW + 60
    assert run(any_store.take_lease("one", 30, NOW + 31)) is None


def test_renewing_keeps_the_number(any_store: AnyStore) -> None:
    first = _lease(any_store, "one", NOW)
    renewed = run(any_store.take_lease("one", 30, NOW + 20))
    assert renewed == Lease("one", first.number, NOW + 50)
    assert run(any_store.take_lease("two", 30, NOW + 40)) is None


def test_a_lease_that_is_given_back_is_free(any_store: AnyStore) -> None:
    first = _lease(any_store, "one")
    run(any_store.release_lease(first))
    second = _lease(any_store, "two")
    assert second.number > first.number
    run(any_store.release_lease(first))
    assert run(any_store.take_lease("three", 30, NOW + 1)) is None


def test_who_lost_the_lease_writes_nothing(any_store: AnyStore) -> None:
    first = _lease(any_store, "one", NOW)
    second = _lease(any_store, "two", NOW + 31)
    with pytest.raises(LeaseLostError):
        run(any_store.write(Change(watermarks={"a": 1.0}), first))
    run(any_store.write(Change(watermarks={"b": 2.0}), second))
    assert run(any_store.load()).watermarks == {"b": 2.0}


def test_of_many_who_want_the_lease_one_gets_it(any_store: AnyStore) -> None:
    async def take() -> list[Lease | None]:
        return list(await asyncio.gather(*(any_store.take_lease(f"o{n}", 30, NOW) for n in range(20))))

    assert sum(lease is not None for lease in run(take())) == 1


def test_a_lease_from_a_clock_that_was_set_back_does_not_hold_for_ever(store: Store) -> None:
    _lease(store, "one", NOW + 365 * 86_400)
    assert run(store.take_lease("two", 30, NOW)) is not None


# --- the history and the cache ----------------------------------------------------------------------------


def _row(id: str, source: str = "images/app", **more: Any) -> BuildRow:
    return msgspec.structs.replace(
        BuildRow(id=id, source=source, status="running", cause="it moved", started_at=NOW), **more
    )


def test_a_build_is_replaced_by_what_is_known_later(any_store: AnyStore) -> None:
    lease = _lease(any_store)
    base, last = _row("1", "images/base", started_at=NOW + 1), _row("2", started_at=NOW + 2)
    run(any_store.write(Change(builds=(_row("1"), last, base)), lease))
    ended = _row("1", status="success", finished_at=NOW + 5)
    run(any_store.write(Change(builds=(ended,)), lease))
    assert run(any_store.builds(10)) == [last, base, ended]
    assert run(any_store.builds(10, "images/app")) == [last, ended]
    assert run(any_store.builds(1)) == [last]
    assert run(any_store.builds(10, "nobody")) == []


def test_cascades_are_their_builds(store: Store) -> None:
    lease = _lease(store)
    old = (_row("1", cascade="c1", status="success", finished_at=NOW + 5), _row("2", "b", cascade="c1"))
    new = (_row("3", "c", cascade="c2", status="failed", finished_at=NOW + 9, started_at=NOW + 7),)
    run(store.write(Change(builds=(*old, _row("4"), *new)), lease))
    second, first = run(store.cascades(10))
    assert (first.id, first.started_at, first.finished_at, first.builds) == ("c1", NOW, None, old)
    assert (second.id, second.started_at, second.finished_at, second.builds) == ("c2", NOW + 7, NOW + 9, new)
    assert run(store.cascades(1)) == [second]


def test_the_cache_gives_what_was_put_there_last(any_store: AnyStore) -> None:
    values = {f"k{number}": bytes([number % 256]) * 3 for number in range(1_200)}
    run(any_store.cache("blob", values))
    run(any_store.cache("blob", {"k7": b""}))
    run(any_store.cache("other", {"k8": b"x"}))
    assert run(any_store.cached("blob", [*values, "missing"])) == {**values, "k7": b""}
    assert run(any_store.cached("other", ["k7", "k8"])) == {"k8": b"x"}
    assert run(any_store.cached("blob", [])) == {}
    run(any_store.cache("blob", {}))


# --- over a restart ---------------------------------------------------------------------------------------


def test_all_is_there_after_a_restart(url: str) -> None:
    store = open_store(url)
    lease = _lease(store)
    run(store.add_hint(Hint(kind="push", project_id=1), "k", NOW))
    change = Change(
        observations=OBSERVATIONS,
        snapshot=b"s",
        intents_opened=(_intent(),),
        builds=(_row("1", cascade="c"),),
        watermarks={"a": 1.0},
    )
    run(store.write(change, lease))
    run(store.cache("blob", {"k": b"v"}))
    before = (
        run(store.load()),
        run(store.hints(9)),
        run(store.builds(9)),
        run(store.cascades(9)),
        run(store.cached("blob", ["k"])),
    )
    store.close()
    store = open_store(url)
    after = (
        run(store.load()),
        run(store.hints(9)),
        run(store.builds(9)),
        run(store.cascades(9)),
        run(store.cached("blob", ["k"])),
    )
    assert after == before
    assert not run(store.add_hint(Hint(kind="push", project_id=1), "k", NOW))
    assert _lease(store, "other", NOW + 31).number > lease.number
    store.close()


def test_what_comes_after_the_end_is_refused(url: str) -> None:
    store = open_store(url)
    store.close()
    with pytest.raises(StoreError, match="closed"):
        run(store.add_hint(Hint(kind="push", project_id=1), "k", NOW))


def test_one_who_gives_up_waiting_does_not_stop_the_others(store: Store) -> None:
    async def add() -> list[bool]:
        hint = Hint(kind="push", project_id=1)
        tasks = [asyncio.ensure_future(store.add_hint(hint, f"k{n}", NOW)) for n in range(50)]
        await asyncio.sleep(0)
        for task in tasks[::2]:
            task.cancel()
        return [result is True for result in await asyncio.gather(*tasks, return_exceptions=True)]

    assert sum(run(add())) >= 25
    assert run(store.add_hint(Hint(kind="push", project_id=1), "later", time.time()))


# --- the hosts --------------------------------------------------------------------------------------------


def _host(name: str, heard_at: float = NOW, body: str = '{"containers":[]}') -> HostRow:
    return HostRow(name=name, heard_at=heard_at, body=body)


def test_of_each_host_the_latest_word_is_kept(store: Store) -> None:
    assert run(store.hosts()) == []
    for row in (_host("web2"), _host("web1"), _host("web2", NOW + 0.25, '{"é":"\\u0000"}')):
        assert run(store.put_host(row))
    assert run(store.hosts()) == [_host("web1"), _host("web2", NOW + 0.25, '{"é":"\\u0000"}')]


def test_a_host_is_forgotten_once(store: Store) -> None:
    run(store.put_host(_host("web1")))
    assert run(store.forget_host("web1"))
    assert not run(store.forget_host("web1"))
    assert run(store.hosts()) == []


def test_hosts_are_bounded_and_those_known_go_on(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imagechain.store.hosts.HOSTS_MAX", 2)
    assert run(store.put_host(_host("web1")))
    assert run(store.put_host(_host("web2")))
    assert not run(store.put_host(_host("web3")))
    assert run(store.put_host(_host("web2", NOW + 1)))
    assert [(row.name, row.heard_at) for row in run(store.hosts())] == [("web1", NOW), ("web2", NOW + 1)]


def _way(source: str, moved_at: float, body: str = "{}", *, is_done: bool = False) -> WayRow:
    return WayRow(source=source, moved_at=moved_at, is_done=is_done, body=body)


def test_a_way_that_was_done_stays_as_it_was(store: Store) -> None:
    run(store.put_ways([_way("a", 1.5), _way("b", 2.5), _way("a", 3.5)]))
    run(store.put_ways([_way("a", 1.5, '{"end":1}', is_done=True)]))
    run(store.put_ways([_way("a", 1.5, '{"late":1}', is_done=True), _way("b", 2.5, '{"more":1}')]))
    run(store.put_ways([]))
    assert run(store.ways()) == [
        _way("a", 3.5),
        _way("b", 2.5, '{"more":1}'),
        _way("a", 1.5, '{"end":1}', is_done=True),
    ]


def test_the_oldest_ways_are_forgotten(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imagechain.store.hosts.WAYS_MAX", 2)
    run(store.put_ways([_way("a", float(at)) for at in (1, 2, 3, 4)]))
    assert [way.moved_at for way in run(store.ways())] == [4.0, 3.0]
