"""Opens the database that a URL names: SQLite in one file, or PostgreSQL; one engine writes, one reads.

Exactly one connection in the whole system writes to an SQLite file and checkpoints it: SQLite before 3.51.3
can damage a database in WAL mode when two do so at the same moment (sqlite.org/wal.html, "WAL-reset bug").
So a lock file keeps other processes out, the writing pool has one connection, and readers open `mode=ro`,
which can do neither.
"""

import fcntl
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from sqlalchemy import URL, Connection, Engine, QueuePool, create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError

from imagechain.store.errors import StoreBusyError, StoreError, StoreLostError, StoreSetupError, store_error

#: How long a statement waits for a lock that another program holds. A hook has 10 s in all, and may wait
#: for a few transactions before its own.
LOCK_WAIT_SECONDS_MAX = 2.0
#: How long one statement may take on PostgreSQL.
STATEMENT_SECONDS_MAX = 30.0
CONNECT_SECONDS_MAX = 5
READERS_MAX = 4
#: The WAL file is cut to this size after a checkpoint.
WAL_BYTES_MAX = 64 * 1024 * 1024
#: The oldest SQLite that understands our statements (`RETURNING`).
SQLITE_VERSION_MIN = (3, 35, 0)
#: The first SQLite without the WAL-reset bug, and the corrections of older series that mend it, too.
_WAL_MENDED = (3, 51, 3)
_WAL_MENDED_TOO = frozenset({(3, 44, 6), (3, 50, 7)})

Dialect = Literal["sqlite", "postgresql"]


class Database:
    """Two engines on one database, held until `close`.

    Attributes:
        dialect: which of the two kinds of database it is.
        name: its URL without a password, for people.
        writing: has one connection only; a transaction on it excludes all others on SQLite.
        reading: its connections cannot change anything.
    """

    def __init__(
        self, dialect: Dialect, name: str, writing: Engine, reading: Engine, release: Callable[[], None]
    ) -> None:
        self.dialect: Dialect = dialect
        self.name = name
        self.writing = writing
        self.reading = reading
        self._release = release

    def close(self) -> None:
        """Close all connections, then let other processes in."""
        # Readers first: the last connection to close checkpoints, and that must be the writing one.
        self.reading.dispose()
        self.writing.dispose()
        self._release()


def open_database(url: str) -> Database:
    """Open the database of a URL, and look whether it answers; a missing SQLite file is made.

    Raises:
        StoreSetupError: the URL leads to no database that can be opened.
        StoreBusyError: another process holds it, or the server does not answer.
        StoreLostError: it is damaged.
    """
    parsed = _parse(url)
    kind = parsed.get_backend_name()
    if kind == "sqlite":
        database = _open_sqlite(parsed)
    elif kind == "postgresql":
        database = _open_postgresql(parsed)
    else:
        raise StoreSetupError(f"store.url names a {kind!r} database; known are sqlite and postgresql")
    try:
        with database.writing.connect() as connection:
            _look_at(connection, database)
    except DBAPIError as error:
        database.close()
        raise store_error(error) from error
    except StoreError:
        database.close()
        raise
    return database


def sqlite_path(url: str) -> Path | None:
    """Give the file of an SQLite database; None: it is another kind of database.

    Raises:
        StoreSetupError: the URL names no database, or no file.
    """
    parsed = _parse(url)
    return _file(parsed) if parsed.get_backend_name() == "sqlite" else None


def sqlite_caution(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> str:
    """Say what people must not do with a database file under this version of SQLite; empty: nothing."""
    if version >= _WAL_MENDED or version in _WAL_MENDED_TOO:
        return ""
    return (
        f"SQLite {_dotted(version)} can damage a database that two programs write to at the same moment "
        f"(mended in {_dotted(_WAL_MENDED)}): imagechain keeps others of its kind out, so open the file "
        "with no other program while it runs, and copy it with `imagechain backup`"
    )


def check_sqlite(version: tuple[int, ...] = sqlite3.sqlite_version_info) -> None:
    """Make sure that Python has an SQLite that is new enough.

    Raises:
        StoreSetupError: it is too old.
    """
    if version < SQLITE_VERSION_MIN:
        raise StoreSetupError(
            f"the SQLite of this Python is {_dotted(version)}, and {_dotted(SQLITE_VERSION_MIN)} is needed: "
            "use a newer Python or system, or PostgreSQL (store.url)"
        )


def _dotted(version: tuple[int, ...]) -> str:
    return ".".join(map(str, version))


def _parse(url: str) -> URL:
    try:
        return make_url(url)
    except ArgumentError as error:
        raise StoreSetupError(
            "store.url is no database URL: write sqlite:////folder/imagechain.db or postgresql://host/name"
        ) from error


def _look_at(connection: Connection, database: Database) -> None:
    if database.dialect == "postgresql":
        connection.exec_driver_sql("SELECT 1")
        return
    finding = connection.exec_driver_sql("PRAGMA quick_check(1)").scalar_one()
    if finding != "ok":
        raise StoreLostError(
            f"the database {database.name} is damaged ({finding}): move it away and start again; "
            "what is needed is then read anew from GitLab and the registries"
        )


# --- SQLite ---------------------------------------------------------------------------------------------


def _file(url: URL) -> Path:
    if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
        raise StoreSetupError("store.url names no file: write sqlite:////folder/imagechain.db")
    return Path(url.database).resolve()


def _open_sqlite(url: URL) -> Database:
    check_sqlite()
    path = _file(url)
    lock = _lock(path.with_name(path.name + ".lock"))
    try:
        # The history tells which projects there are, so it is for the owner's eyes only.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        os.close(lock)
        raise StoreSetupError(f"the database {path} cannot be opened: {error.strerror}") from error
    writing = _sqlite_engine(path, "rw", "BEGIN IMMEDIATE", 1)
    reading = _sqlite_engine(path, "ro", "BEGIN", READERS_MAX)
    return Database("sqlite", f"sqlite:///{path}", writing, reading, lambda: os.close(lock))


def _sqlite_engine(path: Path, mode: Literal["rw", "ro"], begin: str, connections_max: int) -> Engine:
    opened = path.stat()
    engine = create_engine(
        "sqlite://",
        creator=lambda: connect_sqlite(path, mode),
        poolclass=QueuePool,
        pool_size=connections_max,
        max_overflow=0,
        hide_parameters=True,
    )

    # Begun by us, not by the driver's guess: a transaction that writes takes its lock at its begin, where
    # waiting for it can do no harm.
    @event.listens_for(engine, "begin")
    def start(connection: Connection) -> None:
        _check_in_place(path, opened)
        connection.exec_driver_sql(begin)

    return engine


def _check_in_place(path: Path, opened: os.stat_result) -> None:
    """Make sure that a file is the one that was opened: what goes into a removed one is lost.

    Raises:
        StoreLostError: it is not.
    """
    try:
        is_in_place = os.path.samestat(path.stat(), opened)
    except FileNotFoundError:
        is_in_place = False
    except OSError as error:
        raise StoreBusyError(f"the database {path} cannot be looked at: {error.strerror}") from error
    if not is_in_place:
        raise StoreLostError(
            f"the database {path} was removed or replaced while imagechain had it open: restart imagechain; "
            "what is needed is then read anew from GitLab and the registries"
        )


def _lock(path: Path) -> int:
    try:
        lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreSetupError(
            f"the lock file {path} cannot be opened: {error.strerror}; its folder must exist and be writable"
        ) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        holder = os.pread(lock, 20, 0).decode(errors="replace").strip()
        os.close(lock)
        raise StoreBusyError(
            f"another imagechain (process {holder or 'unknown'}) holds {path}: an SQLite database is for one "
            "process; stop the other, or use PostgreSQL"
        ) from error
    os.ftruncate(lock, 0)
    os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)
    return lock


def connect_sqlite(path: Path, mode: Literal["rw", "ro"]) -> sqlite3.Connection:
    """Connect to a file that exists, without beginning a transaction."""
    connection = sqlite3.connect(
        f"{path.as_uri()}?mode={mode}",
        uri=True,
        timeout=LOCK_WAIT_SECONDS_MAX,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        if mode == "rw":
            connection.execute("PRAGMA journal_mode=WAL")
            # Under NORMAL a power cut may take back what was answered already.
            connection.execute("PRAGMA synchronous=FULL")
            connection.execute(f"PRAGMA journal_size_limit={WAL_BYTES_MAX}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection


# --- PostgreSQL -----------------------------------------------------------------------------------------


def _open_postgresql(url: URL) -> Database:
    url = url.set(drivername="postgresql+psycopg")
    options = " ".join(
        f"-c {name}={int(seconds * 1000)}"
        for name, seconds in (
            ("lock_timeout", LOCK_WAIT_SECONDS_MAX),
            ("statement_timeout", STATEMENT_SECONDS_MAX),
            ("idle_in_transaction_session_timeout", STATEMENT_SECONDS_MAX),
        )
    )
    arguments: dict[str, Any] = {
        "application_name": "imagechain",
        "connect_timeout": CONNECT_SECONDS_MAX,
        "options": options,
        # A server that went away without a word is noticed by then.
        "tcp_user_timeout": int(STATEMENT_SECONDS_MAX * 1000),
    }
    try:
        writing, reading = (
            create_engine(
                url,
                connect_args=arguments,
                pool_size=size,
                max_overflow=0,
                pool_pre_ping=True,
                hide_parameters=True,
            )
            for size in (1, READERS_MAX)
        )
    except ImportError as error:
        raise StoreSetupError(
            "PostgreSQL needs the driver psycopg: install imagechain[postgres], or use an SQLite URL"
        ) from error
    reading = reading.execution_options(postgresql_readonly=True)
    return Database("postgresql", url.render_as_string(hide_password=True), writing, reading, lambda: None)
