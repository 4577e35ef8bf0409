"""The errors of the store, as callers need to tell them apart.

StoreError
├── StoreBusyError       retry later: locked, the queue is full, the server is away
├── StoreFullError       retry when there is room again: the disk, or a bound of the store
├── StoreLostError       permanent: damaged, or no database of imagechain at all
├── StoreSetupError      permanent: the settings lead to no database that can be opened
└── LeaseLostError       another replica acts: stop acting, take the lease again, read everything again

Whatever is raised, the transaction left nothing behind.
"""

import sqlite3

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError


class StoreError(Exception):
    """Nothing was stored; the message says why, and what to do."""


class StoreBusyError(StoreError):
    """The store cannot answer now; it may in a moment."""


class StoreFullError(StoreError):
    """There is no room."""


class StoreLostError(StoreError):
    """The database is damaged, or is none of imagechain's."""


class StoreSetupError(StoreError):
    """The database cannot be opened with these settings."""


class LeaseLostError(StoreError):
    """Another replica has become the one that acts."""


#: Classes of SQLSTATE (their first two characters) that pass: connection, a standby, rollback, resources,
#: locks, shutdown.
_POSTGRESQL_PASSING = frozenset({"08", "25", "40", "53", "55", "57"})
#: Not allowed to make tables, or in no schema at all.
_POSTGRESQL_FORBIDDEN = frozenset({"42501", "3F000"})
_POSTGRESQL_DISK_FULL = "53100"
#: Damaged pages (XX001, XX002).
_POSTGRESQL_DAMAGED = frozenset({"XX001", "XX002"})
_SQLITE_BUSY = frozenset({"SQLITE_BUSY", "SQLITE_LOCKED"})
_SQLITE_LOST = frozenset({"SQLITE_CORRUPT", "SQLITE_NOTADB"})

_FULL = "there is no room for the database: free space on its disk, then it goes on by itself"
_LOST = (
    "the database is damaged: stop imagechain, move the database away and start again; "
    "what is needed is then read anew from GitLab and the registries"
)


def store_error(error: DBAPIError) -> StoreError:
    """Say what an error of the database driver means for the caller."""
    cause = error.orig
    if isinstance(cause, sqlite3.Error):
        return sqlite_error(cause)
    state = getattr(cause, "sqlstate", None)
    text = str(cause).strip().partition("\n")[0]
    if state == _POSTGRESQL_DISK_FULL:
        return StoreFullError(f"{_FULL} ({text})")
    if state in _POSTGRESQL_FORBIDDEN:
        return StoreSetupError(f"{text}: make the user of store.url the owner of its database")
    if state in _POSTGRESQL_DAMAGED:
        return StoreLostError(f"{_LOST} ({text})")
    if error.connection_invalidated or (state or "")[:2] in _POSTGRESQL_PASSING:
        return StoreBusyError(f"the database server does not answer as it should: {text}")
    if state is None and isinstance(error, OperationalError | InterfaceError):
        return StoreBusyError(f"the database server is not reached: {text}")
    return StoreError(f"the database refused a statement, which is a bug of imagechain: {text}")


def sqlite_error(cause: sqlite3.Error) -> StoreError:
    """Say what an error of SQLite means for the caller."""
    # The extended code's name begins with the primary one: SQLITE_IOERR_WRITE.
    name = getattr(cause, "sqlite_errorname", "")
    primary = "_".join(name.split("_")[:2])
    detail = f"{cause} ({name})" if name else str(cause)
    if primary in _SQLITE_BUSY:
        return StoreBusyError(
            f"another program holds the database: {detail}. Only imagechain may have the file open; "
            "for copies there is its backup command"
        )
    if primary == "SQLITE_FULL":
        return StoreFullError(f"{_FULL} ({detail})")
    if primary in _SQLITE_LOST:
        return StoreLostError(f"{_LOST} ({detail})")
    if primary in {"SQLITE_IOERR", "SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM"}:
        return StoreBusyError(
            f"the database cannot be read or written: {detail}; look at its disk and folder"
        )
    return StoreError(f"the database refused a statement, which is a bug of imagechain: {detail}")
