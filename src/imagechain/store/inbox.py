"""The inbox: hints that wait to be followed up, and the keys of those that were.

A delivery is stored once for each key. The keys are kept for the newest hints only: GitLab repeats a
delivery within minutes, and a hint that was forgotten costs one look more.
"""

import uuid
from collections.abc import Sequence

import msgspec
from sqlalchemy import Connection, bindparam, delete, func, insert, select, update

from imagechain.store.errors import StoreFullError
from imagechain.store.sql import insert_new
from imagechain.store.tables import hints
from imagechain.store.values import Hint, StoredHint

#: Hints that wait; beyond, hooks are refused, and a reconcile must find what they would have said.
WAITING_HINTS_MAX = 100_000
#: The newest hints, whose keys are remembered.
KNOWN_HINTS_MAX = 100_000

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Hint)


class NewHint(msgspec.Struct, frozen=True):
    """A hint that is to be stored."""

    hint: Hint
    key: str
    received_at: float


class Inbox:
    """Puts hints in, and knows how many more there is room for without counting each time."""

    def __init__(self) -> None:
        self._room = 0

    def add(self, connection: Connection, new: Sequence[NewHint]) -> Sequence[bool]:
        """Store hints; tell of each whether its key was new.

        Raises:
            StoreFullError: too many wait already.
        """
        self._room -= len(new)
        if self._room < 0:
            # Counted again in time; other replicas put hints in too, so the bound is kept roughly.
            some = select(hints.c.id).where(~hints.c.is_done).limit(WAITING_HINTS_MAX).subquery()
            waiting = connection.execute(select(func.count()).select_from(some)).scalar_one()
            self._room = WAITING_HINTS_MAX - waiting - len(new)
        if self._room < 0:
            self._room = 0
            raise StoreFullError(
                f"{WAITING_HINTS_MAX} hints wait to be followed up: the log says what keeps the service"
            )
        rows = [
            {
                "key": item.key,
                "received_at": item.received_at,
                "is_done": False,
                "body": _encoder.encode(item.hint).decode(),
            }
            for item in new
        ]
        statement = insert_new(connection, hints, "key").returning(hints.c.key)
        stored = set(connection.execute(statement, rows).scalars())
        return [_take(stored, item.key) for item in new]


def try_to_add(connection: Connection) -> None:
    """Store a hint and take it away again: where there is no room for it, that fails."""
    row = {"key": f"try:{uuid.uuid4().hex}", "received_at": 0.0, "is_done": True, "body": ""}
    connection.execute(insert(hints), row)
    connection.execute(delete(hints).where(hints.c.key == row["key"]))


def _take(keys: set[str], key: str) -> bool:
    """Remove a key, and tell whether it was there: of two alike in one batch, the first is the new one."""
    if key not in keys:
        return False
    keys.remove(key)
    return True


def waiting_hints(connection: Connection, limit: int) -> list[StoredHint]:
    """Give the oldest hints that wait."""
    rows = connection.execute(
        select(hints.c.id, hints.c.received_at, hints.c.body)
        .where(~hints.c.is_done)
        .order_by(hints.c.id)
        .limit(limit)
    )
    return [StoredHint(row.id, row.received_at, _decoder.decode(row.body)) for row in rows]


def count_waiting(connection: Connection) -> int:
    """Count the hints that wait."""
    return connection.execute(select(func.count()).where(~hints.c.is_done)).scalar_one()


def finish_hints(connection: Connection, ids: Sequence[int]) -> None:
    """Mark hints as followed up, and forget the oldest of these."""
    if not ids:
        return
    statement = update(hints).where(hints.c.id == bindparam("the_id")).values(is_done=True)
    connection.execute(statement, [{"the_id": id} for id in ids])
    newest = select(func.max(hints.c.id)).scalar_subquery()
    connection.execute(delete(hints).where(hints.c.id <= newest - KNOWN_HINTS_MAX, hints.c.is_done))
