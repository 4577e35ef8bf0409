"""Nothing grows for ever, and nobody waits for ever."""

import asyncio
import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.exc import StatementError

from imagechain.store import (
    BuildRow,
    Change,
    Hint,
    Lease,
    Store,
    StoreBusyError,
    StoreFullError,
    open_store,
)

NOW = 1_700_000_000.0
HINT = Hint(kind="push", project_id=1)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = open_store(f"sqlite:///{tmp_path}/x.db")
    yield store
    store.close()


async def _lease(store: Store) -> Lease:
    lease = await store.take_lease("me", 30, NOW)
    assert lease is not None
    return lease


def test_the_inbox_takes_so_many_and_then_more_when_some_are_done(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imagechain.store.inbox.WAITING_HINTS_MAX", 10)

    async def fill() -> None:
        for number in range(10):
            assert await store.add_hint(HINT, f"k{number}", NOW)
        for number in range(3):
            with pytest.raises(StoreFullError, match="10 hints wait"):
                await store.add_hint(HINT, f"refused {number}", NOW)
        done = tuple(item.id for item in (await store.hints(100))[:4])
        await store.write(Change(hints_done=done), await _lease(store))
        for number in range(4):
            assert await store.add_hint(HINT, f"more {number}", NOW)
        with pytest.raises(StoreFullError):
            await store.add_hint(HINT, "too many", NOW)
        assert len(await store.hints(100)) == 10

    asyncio.run(fill())


def test_of_the_hints_that_are_done_the_newest_are_known(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imagechain.store.inbox.KNOWN_HINTS_MAX", 5)

    async def follow_up() -> list[bool]:
        lease = await _lease(store)
        for number in range(20):
            await store.add_hint(HINT, f"k{number}", NOW)
        # One that waits is never forgotten, however old it is.
        waiting, *done = [item.id for item in await store.hints(100)]
        await store.write(Change(hints_done=tuple(done)), lease)
        assert [item.id for item in await store.hints(100)] == [waiting]
        return [await store.add_hint(HINT, f"k{number}", NOW) for number in (0, 1, 14, 15, 19)]

    assert asyncio.run(follow_up()) == [False, True, True, False, False]


def test_the_newest_builds_and_values_are_kept(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imagechain.store.history.BUILDS_MAX", 5)
    monkeypatch.setattr("imagechain.store.cache.VALUES_MAX", 5)

    async def fill() -> None:
        lease = await _lease(store)
        for number in range(9):
            row = BuildRow(id=str(number), source="a", status="running")
            await store.write(Change(builds=(row,)), lease)
            await store.cache("blob", {str(number): b"x"})
        assert [row.id for row in await store.builds(100)] == ["8", "7", "6", "5", "4"]
        assert set(await store.cached("blob", list(map(str, range(9))))) == {"4", "5", "6", "7", "8"}

    asyncio.run(fill())


def test_a_value_that_is_written_again_stays(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imagechain.store.cache.VALUES_MAX", 5)

    async def fill() -> None:
        for number in range(20):
            await store.cache("hooks", {"all": str(number).encode()})
            await store.cache("blob", {str(number): b"x"})
        assert await store.cached("hooks", ["all"]) == {"all": b"19"}

    asyncio.run(fill())


def test_a_huge_value_is_not_kept(store: Store) -> None:
    async def put() -> None:
        await store.cache("blob", {"huge": bytes(16 * 1024 * 1024 + 1), "large": bytes(16 * 1024 * 1024)})
        assert set(await store.cached("blob", ["huge", "large"])) == {"large"}

    asyncio.run(put())


def test_callers_are_refused_when_too_many_wait(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imagechain.store.writer.QUEUE_WRITES_MAX", 100)

    async def flood() -> list[bool | BaseException]:
        # All of these are queued before the thread can take many of them.
        tasks = [store.add_hint(HINT, f"k{number}", NOW) for number in range(5_000)]
        return list(await asyncio.gather(*tasks, return_exceptions=True))

    results = asyncio.run(flood())
    refused = [result for result in results if isinstance(result, StoreBusyError)]
    assert refused
    assert "wait already" in str(refused[0])
    taken = [result for result in results if result is True]
    assert len(taken) + len(refused) == 5_000
    assert len(asyncio.run(store.hints(10_000))) == len(taken)


def test_one_bad_write_fails_alone(store: Store) -> None:
    async def write() -> list[object]:
        lease = await _lease(store)
        stale = Lease("someone", lease.number - 1, NOW)
        good = [store.add_hint(HINT, f"k{number}", NOW) for number in range(20)]
        bad = [store.write(Change(watermarks={"a": 1.0}), stale) for _ in range(3)]
        return list(await asyncio.gather(*good[:10], *bad, *good[10:], return_exceptions=True))

    results = asyncio.run(write())
    assert [result is True for result in results] == [True] * 10 + [False] * 3 + [True] * 10
    assert len(asyncio.run(store.hints(100))) == 20
    assert asyncio.run(store.load()).watermarks == {}


def test_a_bug_in_one_write_does_not_end_the_thread(store: Store) -> None:
    async def write() -> None:
        lease = await _lease(store)
        with pytest.raises(StatementError, match="float"):
            await store.write(Change(watermarks={"a": object()}), lease)  # type: ignore[dict-item]
        await store.write(Change(watermarks={"a": 1.0}), lease)

    asyncio.run(write())


def test_the_thread_outlives_the_loops_of_its_callers(store: Store) -> None:
    for number in range(50):
        loop = asyncio.new_event_loop()
        task = loop.create_task(store.add_hint(HINT, f"k{number}", NOW))
        loop.call_soon(loop.stop)
        loop.run_forever()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            loop.run_until_complete(task)
        loop.close()
    assert asyncio.run(store.add_hint(HINT, "last", NOW))
    assert len(asyncio.run(store.hints(100))) == 51
