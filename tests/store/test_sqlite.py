"""What is promised of an SQLite file: one writer, nothing half stored, clear words when it cannot be used."""

import asyncio
import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import OperationalError

from imagechain.store import (
    Change,
    Hint,
    Store,
    StoreBusyError,
    StoreError,
    StoreFullError,
    StoreLostError,
    StoreSetupError,
    back_up,
    open_store,
    sqlite_caution,
)
from imagechain.store.database import open_database

NOW = 1_700_000_000.0
HINT = Hint(kind="push", project_id=1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "imagechain.db"


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    store = open_store(f"sqlite:///{path}")
    yield store
    store.close()


def _add(store: Store, *keys: str) -> None:
    async def add() -> None:
        await asyncio.gather(*(store.add_hint(HINT, key, NOW) for key in keys))

    asyncio.run(add())


def _count(path: Path) -> int:
    """Count hints with a connection of our own."""
    connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True)
    (count,) = connection.execute("SELECT count(*) FROM hints").fetchone()
    connection.close()
    return int(count)


# --- one writer -------------------------------------------------------------------------------------------


def test_commits_are_durable_before_they_are_answered(path: Path) -> None:
    database = open_database(f"sqlite:///{path}")
    with database.writing.connect() as connection:
        assert connection.execute(text("PRAGMA journal_mode")).scalar_one() == "wal"
        assert connection.execute(text("PRAGMA synchronous")).scalar_one() == 2  # FULL
    database.close()


@pytest.mark.parametrize("replace", [False, True])
def test_a_file_that_is_removed_or_replaced_while_it_is_open_takes_no_more(
    store: Store, path: Path, replace: bool
) -> None:
    _add(store, "before")
    path.rename(path.with_name("elsewhere"))
    if replace:
        path.touch()
    for work in (store.ping(), store.add_hint(HINT, "after", NOW)):
        with pytest.raises(StoreLostError, match=r"was removed or replaced.*restart imagechain"):
            asyncio.run(work)


def test_readers_cannot_write_nor_checkpoint(path: Path) -> None:
    open_store(f"sqlite:///{path}").close()
    database = open_database(f"sqlite:///{path}")
    with database.writing.begin() as connection:
        connection.execute(text("INSERT INTO watermarks VALUES ('a', 1)"))
    with (
        database.reading.begin() as connection,
        pytest.raises(OperationalError, match="attempt to write a readonly database"),
    ):
        connection.execute(text("DELETE FROM watermarks"))
    raw = database.reading.raw_connection()
    with pytest.raises(sqlite3.OperationalError):
        raw.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    raw.close()
    database.close()


def test_there_is_one_writing_connection(path: Path) -> None:
    database = open_database(f"sqlite:///{path}")
    pool = database.writing.pool
    assert pool.status().startswith("Pool size: 1 ")
    assert getattr(pool, "_max_overflow") == 0  # noqa: B009 - no public name tells it
    database.close()


def test_a_second_process_is_kept_out(store: Store, path: Path) -> None:
    with pytest.raises(StoreBusyError, match=f"process {os.getpid()}"):
        open_store(f"sqlite:///{path}")
    script = "import sys; from imagechain.store import open_store; open_store(sys.argv[1])"
    done = subprocess.run(
        [sys.executable, "-c", script, f"sqlite:///{path}"], capture_output=True, text=True, check=False
    )
    assert "StoreBusyError: another imagechain" in done.stderr


def test_another_name_of_the_same_file_is_the_same_file(store: Store, path: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.db"
    link.symlink_to(path)
    with pytest.raises(StoreBusyError):
        open_store(f"sqlite:///{link}")


def test_the_file_is_free_when_the_store_is_closed(path: Path) -> None:
    for _ in range(3):
        open_store(f"sqlite:///{path}").close()
    assert not path.with_name("imagechain.db-wal").exists()


def test_the_lease_of_a_killed_process_is_free_at_once(path: Path) -> None:
    script = (
        "import asyncio, os, sys; from imagechain.store import open_store\n"
        "async def main():\n"
        "    await open_store(sys.argv[1]).take_lease('killed', 3600, 1_700_000_000.0)\n"
        "    os.kill(os.getpid(), 9)\n"
        "asyncio.run(main())\n"
    )
    subprocess.run([sys.executable, "-c", script, f"sqlite:///{path}"], check=False)
    store = open_store(f"sqlite:///{path}")
    lease = asyncio.run(store.take_lease("next", 30, NOW + 1))
    assert lease is not None
    assert lease.number == 2
    store.close()


def test_only_the_owner_may_read_the_file(store: Store, path: Path) -> None:
    _add(store, "k")
    for file in path.parent.glob("imagechain.db*"):
        assert stat.S_IMODE(file.stat().st_mode) & 0o077 == 0, file


# --- faults -----------------------------------------------------------------------------------------------


def test_a_locked_database_refuses_in_time_and_goes_on_afterwards(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imagechain.store.database.LOCK_WAIT_SECONDS_MAX", 0.1)
    store = open_store(f"sqlite:///{path}")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreBusyError, match="another program holds the database"):
        _add(store, "a", "b", "c")
    assert asyncio.run(store.hints(9)) == []
    other.execute("ROLLBACK")
    other.close()
    _add(store, "a")
    assert len(asyncio.run(store.hints(9))) == 1
    store.close()


def test_a_full_disk_refuses_hints_and_loses_none_that_was_taken(small_disk: Path) -> None:
    path = small_disk / "imagechain.db"
    store = open_store(f"sqlite:///{path}")

    async def fill() -> tuple[list[str], list[StoreError]]:
        taken: list[str] = []
        errors: list[StoreError] = []
        for number in range(100_000):
            key = f"{number}:{'x' * 2_000}"
            try:
                await store.add_hint(HINT, key, NOW)
                taken.append(key)
            except StoreError as error:
                errors.append(error)
                if len(errors) == 3:
                    break
        return taken, errors

    taken, errors = asyncio.run(fill())
    assert taken
    assert [type(error) for error in errors] == [StoreFullError] * 3
    assert "free space" in str(errors[0])
    assert _count(path) == len(taken)
    small = 0
    with suppress(StoreFullError):
        # What is left over may be enough for some small ones.
        while small < 1_000:
            _add(store, f"small {small}")
            small += 1
    with pytest.raises(StoreFullError):
        asyncio.run(store.ping())
    # The lease's owner is refused too, and nothing of its change is there.
    with pytest.raises(StoreError):
        asyncio.run(_write_much(store))
    assert asyncio.run(store.load()).snapshot == b""

    subprocess.run(["mount", "-o", "remount,size=64M", str(small_disk)], check=True)
    _add(store, "there is room again")
    store.close()
    store = open_store(f"sqlite:///{path}")
    assert _count(path) == len(taken) + small + 1
    store.close()


async def _write_much(store: Store) -> None:
    lease = await store.take_lease("me", 30, NOW)
    assert lease is not None
    await store.write(Change(watermarks={"a": 1.0}, snapshot=b"x" * 3_000_000), lease)


def test_a_damaged_database_is_told_and_not_used(path: Path) -> None:
    store = open_store(f"sqlite:///{path}")
    _add(store, *(f"{number}:{'x' * 500}" for number in range(500)))
    store.close()
    data = bytearray(path.read_bytes())
    for page in range(3 * 4096, len(data), 4096):
        data[page : page + 200] = os.urandom(200)
    path.write_bytes(data)
    with pytest.raises(StoreLostError, match="move it away"):
        open_store(f"sqlite:///{path}")
    # Whoever follows the advice can go on.
    path.rename(path.with_suffix(".broken"))
    open_store(f"sqlite:///{path}").close()


def test_a_file_that_is_no_database_is_not_touched(path: Path) -> None:
    path.write_bytes(b"precious notes\n" * 1_000)
    with pytest.raises(StoreLostError):
        open_store(f"sqlite:///{path}")
    assert path.read_bytes() == b"precious notes\n" * 1_000


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("", "no database URL"),
        ("imagechain.db", "no database URL"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("sqlite:////no/such/folder/x.db", "folder must exist"),
        ("mysql://host/name", "known are sqlite and postgresql"),
        ("oracle://host/name", "known are sqlite and postgresql"),
    ],
)
def test_a_url_that_leads_nowhere_is_explained(url: str, message: str) -> None:
    with pytest.raises(StoreSetupError, match=message):
        open_store(url)


def test_a_folder_is_no_database(tmp_path: Path) -> None:
    with pytest.raises(StoreSetupError, match="Is a directory"):
        open_store(f"sqlite:///{tmp_path}")


def test_odd_names_of_files_work(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/ü b#1.db")
    _add(store, "k")
    store.close()
    assert (tmp_path / "ü b#1.db").exists()


# --- copies -----------------------------------------------------------------------------------------------


def test_a_copy_is_whole_while_writes_go_on(store: Store, path: Path, tmp_path: Path) -> None:
    _add(store, *map(str, range(100)))

    async def copy() -> None:
        await asyncio.gather(
            asyncio.to_thread(back_up, f"sqlite:///{path}", tmp_path / "copy.db"),
            *(store.add_hint(HINT, f"later {number}", NOW) for number in range(500)),
        )

    asyncio.run(copy())
    assert stat.S_IMODE((tmp_path / "copy.db").stat().st_mode) == 0o600
    assert 100 <= _count(tmp_path / "copy.db") <= 600
    copied = open_store(f"sqlite:///{tmp_path}/copy.db")
    _add(copied, "goes on")
    copied.close()
    assert _count(path) == 600


def test_a_copy_after_a_kill_has_what_only_the_wal_had(path: Path, tmp_path: Path) -> None:
    script = (
        "import asyncio, os, sys; from imagechain.store import Hint, open_store\n"
        "async def main():\n"
        "    store = open_store(sys.argv[1])\n"
        "    await store.add_hint(Hint(kind='push', project_id=1), 'k', 1.0)\n"
        "    os.kill(os.getpid(), 9)\n"
        "asyncio.run(main())\n"
    )
    subprocess.run([sys.executable, "-c", script, f"sqlite:///{path}"], check=False)
    # As if its shared memory had gone with the machine.
    path.with_name("imagechain.db-shm").unlink()
    back_up(f"sqlite:///{path}", tmp_path / "copy.db")
    assert _count(tmp_path / "copy.db") == 1


def test_a_copy_overwrites_nothing(store: Store, path: Path, tmp_path: Path) -> None:
    (tmp_path / "copy.db").write_text("precious")
    with pytest.raises(StoreError, match="new file"):
        back_up(f"sqlite:///{path}", tmp_path / "copy.db")
    assert (tmp_path / "copy.db").read_text() == "precious"


def test_a_copy_that_fails_leaves_no_file(path: Path, tmp_path: Path) -> None:
    path.write_bytes(b"no database" * 1_000)
    with pytest.raises(StoreError):
        back_up(f"sqlite:///{path}", tmp_path / "copy.db")
    assert not (tmp_path / "copy.db").exists()


def test_only_sqlite_databases_that_exist_are_copied(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no database"):
        back_up(f"sqlite:///{tmp_path}/none.db", tmp_path / "copy.db")
    with pytest.raises(StoreError, match="pg_dump"):
        back_up("postgresql://host/name", tmp_path / "copy.db")
    assert list(tmp_path.iterdir()) == []


# --- versions ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", [(3, 40, 1), (3, 44, 5), (3, 50, 6), (3, 51, 2)])
def test_people_are_warned_of_an_sqlite_that_two_writers_can_damage(version: tuple[int, ...]) -> None:
    assert "mended in 3.51.3" in sqlite_caution(version)


@pytest.mark.parametrize("version", [(3, 44, 6), (3, 50, 7), (3, 51, 3), (3, 52, 0), (3, 53, 0)])
def test_nobody_is_warned_of_an_sqlite_that_is_mended(version: tuple[int, ...]) -> None:
    assert sqlite_caution(version) == ""


def test_an_sqlite_that_lacks_what_statements_need_is_refused_before_a_file_is_made(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imagechain.store.database.SQLITE_VERSION_MIN", (99, 0, 0))
    with pytest.raises(StoreSetupError, match=r"99\.0\.0 is needed"):
        open_store(f"sqlite:///{path}")
    assert not path.exists()
