"""The store: every call is one transaction, durable when it returns.

Writes go through one thread (`writer`), reads through connections that cannot write. All is asynchronous
for the caller, so that a slow disk never stops the loop.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from imagechain.store import lease as leases
from imagechain.store.cache import Values, get_values, put_values
from imagechain.store.database import Database, open_database
from imagechain.store.errors import StoreBusyError, store_error
from imagechain.store.history import latest_builds, latest_cascades, note_builds, rename_builds
from imagechain.store.hosts import all_hosts, all_ways, forget_hosts, put_hosts, put_ways
from imagechain.store.inbox import Inbox, NewHint, count_waiting, finish_hints, try_to_add, waiting_hints
from imagechain.store.memory import (
    add_observations,
    close_intents,
    load_memory,
    note_errands,
    open_intents,
    replace_log,
    set_watermarks,
)
from imagechain.store.migrate import migrate
from imagechain.store.values import (
    BuildRow,
    CascadeRow,
    Change,
    Hint,
    HostRow,
    Lease,
    Memory,
    StoredHint,
    WayRow,
)
from imagechain.store.writer import Writer

R = TypeVar("R")

#: Values that go into the cache in one transaction: hints that come meanwhile wait for it.
_CACHE_VALUES_PER_WRITE_MAX = 500


def open_store(url: str) -> "Store":
    """Open the database of a URL, and bring its tables up to this version.

    Raises:
        StoreError: it cannot be used; the message says why.
    """
    database = open_database(url)
    try:
        with database.writing.begin() as connection:
            migrate(connection)
            if database.dialect == "sqlite":
                # The lock file says that whoever had the lease is gone.
                leases.end_lease(connection)
    except DBAPIError as error:
        database.close()
        raise store_error(error) from error
    except BaseException:
        database.close()
        raise
    return Store(database)


class Store:
    """Where all is kept, until `close`."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._writer = Writer(database.writing)
        self._inbox = Inbox()

    def close(self) -> None:
        """Finish the writes that wait, and let others open the database."""
        self._writer.close()
        self._database.close()

    async def ping(self) -> None:
        """Find out whether the store would take a write now.

        Raises:
            StoreError: it would not.
        """
        await self._writer.write(_write_something, None)

    # --- the inbox --------------------------------------------------------------------------------------

    async def add_hint(self, hint: Hint, key: str, received_at: float) -> bool:
        """Put a hint into the inbox; False: a hint of this key is or was there."""
        return await self._writer.write(self._inbox.add, NewHint(hint, key, received_at))

    async def hints(self, limit: int) -> Sequence[StoredHint]:
        """Give the oldest hints that were not followed up."""
        return await self._read(lambda connection: waiting_hints(connection, limit))

    async def waiting_hints(self) -> int:
        """Count the hints that were not followed up."""
        return await self._read(count_waiting)

    # --- the lease --------------------------------------------------------------------------------------

    async def take_lease(self, owner: str, seconds: float, now: float) -> Lease | None:
        """Take or renew the lease; None: another owner has it."""
        return await self._writer.write(self._take_leases, (owner, seconds, now))

    def _take_leases(
        self, connection: Connection, arguments: Sequence[tuple[str, float, float]]
    ) -> Sequence[Lease | None]:
        return [
            leases.take_lease(connection, owner, seconds, now, self._present(connection, now))
            for owner, seconds, now in arguments
        ]

    def _present(self, connection: Connection, now: float) -> float:
        """Tell the time that leases go by: the server's; of an SQLite file there is one user only."""
        return leases.server_time(connection) if self._database.dialect == "postgresql" else now

    async def release_lease(self, lease: Lease) -> None:
        """Give the lease back before its time, if it is still held."""
        await self._writer.write(_release_leases, lease)

    # --- what the service knows -------------------------------------------------------------------------

    async def load(self) -> Memory:
        """Give what was written last.

        Raises:
            StoreLostError: an entry cannot be read by this version.
        """
        return await self._read(load_memory)

    async def write(self, change: Change, lease: Lease) -> None:
        """Write what one step changed, all of it or nothing.

        Raises:
            LeaseLostError: the lease's number is not the present one: nothing was written.
        """
        await self._writer.write(_write_changes, (change, lease))

    # --- the cache --------------------------------------------------------------------------------------

    async def cached(self, kind: str, keys: Sequence[str]) -> Mapping[str, bytes]:
        """Give what was kept under these keys; what is missing is left out."""
        return await self._read(lambda connection: get_values(connection, kind, keys))

    async def cache(self, kind: str, values: Mapping[str, bytes]) -> None:
        """Keep what can be read again at a cost, such as a file by its blob id."""
        keys = list(values)
        for start in range(0, len(keys), _CACHE_VALUES_PER_WRITE_MAX):
            some = {key: values[key] for key in keys[start : start + _CACHE_VALUES_PER_WRITE_MAX]}
            await self._writer.write(put_values, Values(kind, some))

    # --- the history ------------------------------------------------------------------------------------

    async def builds(self, limit: int, source: str | None = None) -> Sequence[BuildRow]:
        """Give the latest builds, the latest first."""
        return await self._read(lambda connection: latest_builds(connection, limit, source))

    async def cascades(self, limit: int) -> Sequence[CascadeRow]:
        """Give the latest cascades, the latest first."""
        return await self._read(lambda connection: latest_cascades(connection, limit))

    # --- the hosts --------------------------------------------------------------------------------------

    async def put_host(self, row: HostRow) -> bool:
        """Keep what a host said, in the place of what it had said; False: there is no room for one more."""
        return await self._writer.write(put_hosts, row)

    async def forget_host(self, name: str) -> bool:
        """Forget a host; False: there is none of that name."""
        return await self._writer.write(forget_hosts, name)

    async def hosts(self) -> Sequence[HostRow]:
        """Give what all hosts said last, by name."""
        return await self._read(all_hosts)

    async def put_ways(self, rows: Sequence[WayRow]) -> None:
        """Keep how far moves have come on the hosts, but for those that were done before."""
        await self._writer.write(put_ways, rows)

    async def ways(self) -> Sequence[WayRow]:
        """Give how far moves have come, the latest first."""
        return await self._read(all_ways)

    async def _read(self, query: Callable[[Connection], R]) -> R:
        return await asyncio.to_thread(self._query, query)

    def _query(self, query: Callable[[Connection], R]) -> R:
        try:
            with self._database.reading.begin() as connection:
                return query(connection)
        except DBAPIError as error:
            raise store_error(error) from error
        except PoolTimeoutError as error:
            raise StoreBusyError("all connections that read are in use") from error


def _write_something(connection: Connection, arguments: Sequence[None]) -> Sequence[None]:
    # A transaction that changes nothing succeeds on a full disk, too; so what a hint changes is changed.
    try_to_add(connection)
    return arguments


def _release_leases(connection: Connection, arguments: Sequence[Lease]) -> Sequence[None]:
    for lease in arguments:
        leases.release_lease(connection, lease)
    return [None] * len(arguments)


def _write_changes(connection: Connection, arguments: Sequence[tuple[Change, Lease]]) -> Sequence[None]:
    for change, lease in arguments:
        leases.check_lease(connection, lease)
        if change.snapshot is not None:
            replace_log(connection, change.snapshot)
        add_observations(connection, change.observations)
        finish_hints(connection, change.hints_done)
        # Closed ones first: a source may close one and open the next in one step.
        close_intents(connection, change.intents_closed)
        open_intents(connection, change.intents_opened)
        rename_builds(connection, change.renamed)
        note_builds(connection, change.builds)
        set_watermarks(connection, change.watermarks)
        note_errands(connection, change.errands)
    return [None] * len(arguments)
