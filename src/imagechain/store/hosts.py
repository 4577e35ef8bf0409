"""What each host runs, as it said last, and how far fixes have come there."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, delete, func, select, tuple_

from imagechain.store.sql import insert_or_replace
from imagechain.store.tables import hosts, ways
from imagechain.store.values import HostRow, WayRow

#: Hosts that are known at once; others are refused.
HOSTS_MAX = 1_000
#: Moves that are remembered, the latest.
WAYS_MAX = 1_000

_columns = [hosts.c[name] for name in HostRow.__struct_fields__]


def put_hosts(connection: Connection, rows: Sequence[HostRow]) -> Sequence[bool]:
    """Keep what hosts said, in the place of what they had said; False: there is no room for one more."""
    return [_put_host(connection, row) for row in rows]


def _put_host(connection: Connection, row: HostRow) -> bool:
    is_known = select(func.count()).select_from(hosts).where(hosts.c.name == row.name)
    count = select(func.count()).select_from(hosts)
    if not connection.scalar(is_known) and (connection.scalar(count) or 0) >= HOSTS_MAX:
        return False
    connection.execute(insert_or_replace(connection, hosts, ["name"]), msgspec.structs.asdict(row))
    return True


def forget_hosts(connection: Connection, names: Sequence[str]) -> Sequence[bool]:
    """Forget hosts; False: there is none of that name."""
    return [connection.execute(delete(hosts).where(hosts.c.name == name)).rowcount > 0 for name in names]


def all_hosts(connection: Connection) -> list[HostRow]:
    """Give what all hosts said, by name."""
    rows: Any = connection.execute(select(*_columns).order_by(hosts.c.name))
    return [HostRow(**row._asdict()) for row in rows]


def put_ways(connection: Connection, batches: Sequence[Sequence[WayRow]]) -> Sequence[None]:
    """Keep how far moves have come, but for those that were done before; forget the oldest."""
    statement = insert_or_replace(connection, ways, ["source", "moved_at"])
    for rows in batches:
        keys = tuple_(ways.c.source, ways.c.moved_at).in_([(row.source, row.moved_at) for row in rows])
        found = connection.execute(select(ways.c.source, ways.c.moved_at).where(keys, ways.c.is_done))
        done = {(row.source, row.moved_at) for row in found}
        news = [msgspec.structs.asdict(row) for row in rows if (row.source, row.moved_at) not in done]
        if news:
            connection.execute(statement, news)
    oldest = select(ways.c.moved_at).order_by(ways.c.moved_at.desc()).offset(WAYS_MAX).limit(1)
    connection.execute(delete(ways).where(ways.c.moved_at <= oldest.scalar_subquery()))
    return [None] * len(batches)


def all_ways(connection: Connection) -> list[WayRow]:
    """Give how far moves have come, the latest first."""
    columns = [ways.c[name] for name in WayRow.__struct_fields__]
    rows: Any = connection.execute(select(*columns).order_by(ways.c.moved_at.desc(), ways.c.source))
    return [WayRow(**row._asdict()) for row in rows]
