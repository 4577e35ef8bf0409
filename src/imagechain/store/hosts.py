"""What each host runs, as it said last."""

from collections.abc import Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, delete, func, select

from imagechain.store.sql import insert_or_replace
from imagechain.store.tables import hosts
from imagechain.store.values import HostRow

#: Hosts that are known at once; others are refused.
HOSTS_MAX = 1_000

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
