"""Keeps what can be read again at a cost, such as files of repositories by their blob ids. May be emptied."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, delete, func, insert, select

from imagechain.store.tables import cache

#: The values that were written last, which are kept.
VALUES_MAX = 200_000
#: A larger value is not kept.
VALUE_BYTES_MAX = 16 * 1024 * 1024
#: Databases bound the parameters of one statement.
KEYS_PER_QUERY_MAX = 500


class Values(NamedTuple):
    """Values to keep, by key."""

    kind: str
    values: Mapping[str, bytes]


def put_values(connection: Connection, all_new: Sequence[Values]) -> Sequence[None]:
    """Keep values, in the place of those of the same keys; forget those that were written long ago."""
    # Not replaced in place: a value that is written again is as young as a new one.
    remove = delete(cache).where(cache.c.kind == bindparam("the_kind"), cache.c.key == bindparam("the_key"))
    for new in all_new:
        rows = [
            {"kind": new.kind, "key": key, "body": body}
            for key, body in new.values.items()
            if len(body) <= VALUE_BYTES_MAX
        ]
        if rows:
            connection.execute(remove, [{"the_kind": new.kind, "the_key": row["key"]} for row in rows])
            connection.execute(insert(cache), rows)
    newest = select(func.max(cache.c.number)).scalar_subquery()
    connection.execute(delete(cache).where(cache.c.number <= newest - VALUES_MAX))
    return [None] * len(all_new)


def get_values(connection: Connection, kind: str, keys: Sequence[str]) -> dict[str, bytes]:
    """Give the values that are there, by key."""
    found: dict[str, bytes] = {}
    for start in range(0, len(keys), KEYS_PER_QUERY_MAX):
        some = keys[start : start + KEYS_PER_QUERY_MAX]
        statement = select(cache.c.key, cache.c.body).where(cache.c.kind == kind, cache.c.key.in_(some))
        found.update((row.key, row.body) for row in connection.execute(statement))
    return found
