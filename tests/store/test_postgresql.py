"""What is promised of PostgreSQL only: several replicas, and a server that comes and goes."""

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagechain.store import (
    Change,
    Hint,
    Lease,
    LeaseLostError,
    Store,
    StoreBusyError,
    StoreError,
    StoreSetupError,
    open_store,
)
from imagechain.store.database import open_database
from store.postgresql import Server, running_server

NOW = 1_700_000_000.0
HINT = Hint(kind="push", project_id=1)


@pytest.fixture
def replicas(postgresql: Server) -> Iterator[tuple[Store, Store]]:
    url = postgresql.database()
    stores = open_store(url), open_store(url)
    yield stores
    for store in stores:
        store.close()


def test_two_replicas_store_each_delivery_once(replicas: tuple[Store, Store]) -> None:
    async def deliver() -> int:
        calls = [store.add_hint(HINT, f"k{n % 300}", NOW) for n in range(600) for store in replicas]
        results = await asyncio.gather(*calls, return_exceptions=True)
        # Two that insert the same keys in another order may hinder each other: one is asked to come again.
        assert all(isinstance(result, bool | StoreBusyError) for result in results)
        for n in range(300):
            await replicas[0].add_hint(HINT, f"k{n}", NOW)
        return len(await replicas[1].hints(1_000))

    assert asyncio.run(deliver()) == 300


@pytest.mark.usefixtures("own_time")
def test_of_two_replicas_one_acts(replicas: tuple[Store, Store]) -> None:
    one, two = replicas

    async def act() -> None:
        first = await one.take_lease("one", 30, NOW)
        assert first is not None
        assert await two.take_lease("two", 30, NOW + 1) is None
        await one.write(Change(watermarks={"a": 1.0}), first)
        second = await two.take_lease("two", 30, NOW + 31)
        assert second is not None
        with pytest.raises(LeaseLostError):
            await one.write(Change(watermarks={"a": 2.0}), first)
        await two.write(Change(watermarks={"b": 3.0}), second)
        assert (await one.load()).watermarks == {"a": 1.0, "b": 3.0}

    asyncio.run(act())


def test_leases_go_by_the_clock_of_the_server_for_those_of_replicas_differ(
    replicas: tuple[Store, Store],
) -> None:
    one, two = replicas

    async def act() -> None:
        first = await one.take_lease("one", 30, NOW)
        assert first == Lease("one", first.number if first else 0, NOW + 30)
        for wrong in (-1e6, -400.0, 0.0, 400.0, 1e6):
            assert await two.take_lease("two", 30, NOW + wrong) is None
        await one.release_lease(first)
        second = await two.take_lease("two", 30, NOW - 1e6)
        assert second == Lease("two", first.number + 1, NOW - 1e6 + 30)

    asyncio.run(act())


@pytest.mark.usefixtures("own_time")
def test_replicas_that_want_the_lease_at_the_same_moment_do_not_both_get_it(
    replicas: tuple[Store, Store],
) -> None:
    async def race() -> None:
        for turn in range(30):
            now = NOW + 100 * turn
            leases = await asyncio.gather(
                *(store.take_lease(f"replica {n}", 30, now) for n, store in enumerate(replicas))
            )
            assert sum(lease is not None for lease in leases) == 1

    asyncio.run(race())


def test_replicas_that_start_at_the_same_moment_migrate_once(postgresql: Server) -> None:
    url = postgresql.database()

    async def start() -> list[Store]:
        return list(await asyncio.gather(*(asyncio.to_thread(open_store, url) for _ in range(4))))

    for store in asyncio.run(start()):
        store.close()


def test_a_server_that_restarts_is_found_again() -> None:
    with tempfile.TemporaryDirectory(prefix="imagechain-") as folder, running_server(Path(folder)) as server:
        store = open_store(server.database())

        async def use() -> None:
            assert await store.add_hint(HINT, "before", NOW)
            await asyncio.to_thread(server.stop)
            for _ in range(2):
                with pytest.raises(StoreBusyError, match="database server"):
                    await store.add_hint(HINT, "meanwhile", NOW)
                with pytest.raises(StoreBusyError, match="database server"):
                    await store.hints(1)
            await asyncio.to_thread(server.start)
            assert await store.add_hint(HINT, "after", NOW)
            assert not await store.add_hint(HINT, "before", NOW)
            assert len(await store.hints(9)) == 2

        asyncio.run(use())
        store.close()


def test_a_session_that_is_ended_in_the_middle_costs_at_most_one_answer(postgresql: Server) -> None:
    store = open_store(postgresql.database())

    async def use() -> None:
        taken = 0
        for number in range(20):
            if number == 10:
                await asyncio.to_thread(
                    postgresql.execute,
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                    " WHERE application_name = 'imagechain'",
                )
            try:
                taken += await store.add_hint(HINT, f"k{number}", NOW)
            except StoreBusyError:
                continue
        assert taken >= 19
        assert len(await store.hints(99)) == taken

    asyncio.run(use())
    store.close()


def test_readers_cannot_write(postgresql: Server) -> None:

    url = postgresql.database()
    open_store(url).close()
    database = open_database(url)
    with (
        pytest.raises(Exception, match="read-only transaction"),
        database.reading.begin() as connection,
    ):
        connection.exec_driver_sql("DELETE FROM hints")
    database.close()


def test_a_server_that_is_not_there_is_told_without_the_password(tmp_path: Path) -> None:
    with pytest.raises(StoreBusyError) as caught:
        open_store(f"postgresql://someone:hunter2@/db?host={tmp_path}")
    assert "hunter2" not in str(caught.value)


def test_a_user_who_may_not_make_tables_is_told(postgresql: Server) -> None:
    url = postgresql.database().replace("tests@", "guest@")
    postgresql.execute("DROP ROLE IF EXISTS guest; CREATE ROLE guest LOGIN")
    with pytest.raises(StoreSetupError, match=r"no schema .* owner"):
        open_store(url)
    postgresql.execute("GRANT USAGE ON SCHEMA public TO guest")
    with pytest.raises(StoreSetupError, match=r"permission denied .* owner"):
        open_store(url)


def test_a_server_that_became_a_standby_is_waited_for(postgresql: Server) -> None:
    store = open_store(postgresql.database())
    postgresql.execute("ALTER ROLE tests SET default_transaction_read_only = on")
    try:
        postgresql.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'imagechain'"
        )
        with pytest.raises(StoreBusyError, match="read-only"):
            asyncio.run(store.add_hint(HINT, "k", NOW))
    finally:
        postgresql.execute("BEGIN READ WRITE; ALTER ROLE tests RESET ALL; COMMIT")
    store.close()


def test_a_database_that_does_not_exist_is_named(postgresql: Server) -> None:
    with pytest.raises(StoreError, match='database "nobody" does not exist'):
        open_store(postgresql.url("nobody"))
