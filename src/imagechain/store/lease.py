"""The lease: of several replicas on one database, one acts.

Its number rises with each new owner, and every write shows it: one who slept through the end of its lease
writes nothing any more. The row is there from the first migration on, so that it can be locked.

Leases go by one clock, that of the database: replicas whose own clocks differ would take the lease from each
other for ever. What an owner is told of its end is in its own time, counted from when it asked.
"""

from sqlalchemy import Connection, func, select, update

from imagechain.store.errors import LeaseLostError
from imagechain.store.tables import leases
from imagechain.store.values import Lease

#: An end farther away than so many durations was written under a clock that has been set back since.
_DURATIONS_MAX = 10


def server_time(connection: Connection) -> float:
    """Tell the Unix time of a PostgreSQL server."""
    return float(connection.execute(select(func.extract("epoch", func.clock_timestamp()))).scalar_one())


def take_lease(
    connection: Connection, owner: str, seconds: float, now: float, present: float
) -> Lease | None:
    """Take the lease if it is free or over, renew it if it is the owner's own; None: another has it.

    Args:
        connection: within a transaction.
        owner: who asks.
        seconds: for how long.
        now: the time of who asks.
        present: the time that leases go by.
    """
    row = connection.execute(select(leases).with_for_update()).one()
    is_held = present < row.expires_at <= present + _DURATIONS_MAX * seconds
    if row.owner != owner and is_held:
        return None
    number = row.number + (row.owner != owner)
    connection.execute(update(leases).values(owner=owner, number=number, expires_at=present + seconds))
    return Lease(owner, number, now + seconds)


def release_lease(connection: Connection, lease: Lease) -> None:
    """End the lease now, if it is still the one that was taken."""
    connection.execute(update(leases).where(leases.c.number == lease.number).values(expires_at=0.0))


def end_lease(connection: Connection) -> None:
    """End the lease of whoever had it, where it is known that nobody else can have the database open."""
    connection.execute(update(leases).values(expires_at=0.0))


def check_lease(connection: Connection, lease: Lease) -> None:
    """Make sure that the lease has not gone to another, and does not before this transaction ends.

    Raises:
        LeaseLostError: it has.
    """
    row = connection.execute(select(leases).with_for_update()).one()
    if row.number != lease.number:
        raise LeaseLostError(f"{row.owner} acts now: the lease of {lease.owner} was over")
