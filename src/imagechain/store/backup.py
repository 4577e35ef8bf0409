"""Copies an SQLite database into a new file, whether or not a service has it open.

A copy of the file alone would lack what is in the WAL still. While a service runs, this only reads, as its
own readers do: see `database` for why nobody else may write.
"""

import os
import shlex
import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy import URL, make_url

from imagechain.store.database import connect_sqlite, open_database, sqlite_path
from imagechain.store.errors import StoreBusyError, StoreError, StoreSetupError


def back_up(url: str, target: Path) -> None:
    """Write a whole copy of the database.

    Raises:
        StoreSetupError: the file is there already or cannot be made, or there is no SQLite database to copy.
        StoreError: the copy cannot be written.
    """
    path = sqlite_path(url)
    if path is None:
        raise StoreSetupError(
            f"the store is in PostgreSQL, whose own program copies it: {_pg_dump(url, target)}"
        )
    if not path.exists():
        raise StoreSetupError(f"there is no database {path} to copy; check store.url")
    try:
        os.close(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise StoreSetupError(
            f"the copy {target} cannot be made: {error.strerror}; name a new file"
        ) from error
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


def _pg_dump(url: str, target: Path) -> str:
    """Write the command that copies a PostgreSQL database; its password has no place in argv."""
    parts = make_url(url)
    address = URL.create(
        "postgresql", parts.username, None, parts.host, parts.port, parts.database, parts.query
    )
    command = ["pg_dump", "--format=custom", f"--file={target}", address.render_as_string()]
    return " ".join(map(shlex.quote, command))


def _recover(url: str) -> None:
    """Let SQLite tidy up after a service that was killed, which a reader cannot; a running one did so."""
    try:
        database = open_database(url)
    except StoreBusyError:
        return
    database.close()
