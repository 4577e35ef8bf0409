"""Looking at a store changes nothing, whoever looks and whoever has it open."""

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from imagechain.store import StoreError, examine_store, open_store


def listing(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


def test_a_store_of_this_version_is_told_as_such(url: str) -> None:
    open_store(url).close()
    state = examine_store(url)
    assert state.revision == state.newest != ""


def test_a_store_that_another_has_open_is_read(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/imagechain.db"
    store = open_store(url)
    try:
        assert examine_store(url).revision == examine_store(url).newest
    finally:
        store.close()


def test_nothing_is_made_and_nothing_is_left(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/imagechain.db"
    state = examine_store(url)
    assert (state.revision, state.is_writable) == (None, True)
    assert listing(tmp_path) == {}
    open_store(url).close()
    before = listing(tmp_path)
    examine_store(url)
    assert listing(tmp_path) == before


def test_a_store_after_a_kill_is_read_as_its_wal_says(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/imagechain.db"
    script = (
        "import os, sys; from imagechain.store import open_store; "
        "open_store(sys.argv[1]); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", script, url], check=False)
    assert (tmp_path / "imagechain.db-wal").exists()
    assert examine_store(url).revision == examine_store(url).newest


def test_a_store_of_another_version_is_told(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/imagechain.db"
    open_store(url).close()
    with closing(sqlite3.connect(tmp_path / "imagechain.db")) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'of-tomorrow'")
    state = examine_store(url)
    assert state.revision == "of-tomorrow" != state.newest


def test_what_is_no_store_is_told(tmp_path: Path) -> None:
    (tmp_path / "imagechain.db").write_bytes(b"no database" * 1_000)
    with pytest.raises(StoreError, match="is damaged"):
        examine_store(f"sqlite:///{tmp_path}/imagechain.db")
    with pytest.raises(StoreError, match="does not exist"):
        examine_store(f"sqlite:///{tmp_path}/nowhere/imagechain.db")
