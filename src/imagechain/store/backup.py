"""Copies an SQLite database into a new file, whether or not a service has it open.

A copy of the file alone would lack what is in the WAL still. While a service runs, this only reads, as its
own readers do: see `database` for why nobody else may write.
"""

import os
import sqlite3
from contextlib import closing
from pathlib import Path

from imagechain.store.database import connect_sqlite, open_database, sqlite_path
from imagechain.store.errors import StoreBusyError, StoreError


def back_up(url: str, target: Path) -> None:
    """Write a whole copy of the database.

    Raises:
        StoreError: the file is there already or cannot be written, or it is no SQLite database.
    """
    path = sqlite_path(url)
    if path is None:
        raise StoreError("only SQLite databases are copied by imagechain: use pg_dump for PostgreSQL")
    if not path.exists():
        raise StoreError(f"there is no database {path} to copy")
    try:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StoreError(f"the copy {target} cannot be made: {error.strerror}; name a new file") from error
    try:
        _recover(url)
        with closing(connect_sqlite(path, "ro")) as connection:
            connection.execute("VACUUM INTO ?", (str(target),))
    except sqlite3.Error as error:
        target.unlink()
        raise StoreError(f"the copy {target} could not be written: {error}") from error
    except StoreError:
        target.unlink()
        raise


def _recover(url: str) -> None:
    """Let SQLite tidy up after a service that was killed, which a reader cannot; a running one did so."""
    try:
        database = open_database(url)
    except StoreBusyError:
        return
    database.close()
