"""Looks at a database without changing anything: no file is made, no lock taken, nothing migrated.

So whoever looks may be another user than the service, and the service may run meanwhile.
"""

import os
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import msgspec
from alembic.runtime.migration import MigrationContext
from sqlalchemy.exc import DBAPIError

from imagechain.store.database import check_sqlite, open_database, sqlite_path
from imagechain.store.errors import StoreSetupError, sqlite_error, store_error
from imagechain.store.migrate import newest_revision


class StoreState(msgspec.Struct, frozen=True, kw_only=True):
    """What was found."""

    #: The file, or the URL without its password.
    name: str
    #: The version of its tables; None: it is empty, or not there yet.
    revision: str | None
    #: The version of the tables that this imagechain makes.
    newest: str
    #: Whether this user may write the file; None: PostgreSQL tells at the first write.
    is_writable: bool | None = None
    #: Room on its disk; None: on another machine.
    free_bytes: int | None = None


def examine_store(url: str) -> StoreState:
    """Look at the database of a URL.

    Raises:
        StoreError: it cannot be read; the message says why.
    """
    path = sqlite_path(url)
    if path is not None:
        return _examine_file(path)
    database = open_database(url)
    try:
        with database.reading.connect() as connection:
            revision = MigrationContext.configure(connection).get_current_revision()
    except DBAPIError as error:
        raise store_error(error) from error
    finally:
        database.close()
    return StoreState(name=database.name, revision=revision, newest=newest_revision())


def _examine_file(path: Path) -> StoreState:
    check_sqlite()
    if not path.parent.is_dir():
        raise StoreSetupError(f"the folder {path.parent} does not exist; make it, or change store.url")
    return StoreState(
        name=str(path),
        revision=_revision(path) if path.exists() else None,
        newest=newest_revision(),
        is_writable=os.access(path if path.exists() else path.parent, os.W_OK),
        free_bytes=shutil.disk_usage(path.parent).free,
    )


def _revision(path: Path) -> str | None:
    # Without a WAL nobody has it open, and a reader who may not make one must be told so.
    frozen = "" if path.with_name(path.name + "-wal").exists() else "&immutable=1"
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro{frozen}", uri=True)) as connection:
            tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
            if "alembic_version" not in tables:
                return None
            row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.Error as error:
        raise sqlite_error(error) from error
    return None if row is None else str(row[0])
