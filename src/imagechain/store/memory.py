"""What the service remembers over a restart: a snapshot, the observations since, intents and watermarks.

It is written by one `Change` at a time, by the one who holds the lease.
"""

from collections.abc import Mapping, Sequence

import msgspec
from sqlalchemy import Connection, delete, insert, select

from imagechain.chain import Observation
from imagechain.store.errors import StoreLostError
from imagechain.store.sql import insert_or_replace
from imagechain.store.tables import errands, intents, observations, snapshots, watermarks
from imagechain.store.values import ErrandRow, Intent, Memory

#: Errands that are done, and are known still.
ERRANDS_MAX = 2_000
_SNAPSHOT_ID = 1

_encoder = msgspec.json.Encoder()
_observation_decoder: msgspec.json.Decoder[Observation] = msgspec.json.Decoder(Observation)
_intent_decoder = msgspec.json.Decoder(Intent)


def load_memory(connection: Connection) -> Memory:
    """Read all of it, as it was after one change.

    Raises:
        StoreLostError: an entry is none that this version of imagechain knows.
    """
    snapshot = connection.execute(select(snapshots.c.body)).scalar_one_or_none()
    log = connection.execute(select(observations.c.body).order_by(observations.c.id)).scalars()
    opened = connection.execute(select(intents.c.body).order_by(intents.c.at, intents.c.id)).scalars()
    known = connection.execute(select(errands).order_by(errands.c.at, errands.c.id))
    marks = connection.execute(select(watermarks.c.name, watermarks.c.at))
    try:
        return Memory(
            snapshot=snapshot or b"",
            observations=tuple([_observation_decoder.decode(body) for body in log]),
            intents=tuple([_intent_decoder.decode(body) for body in opened]),
            watermarks={row.name: row.at for row in marks},
            errands=tuple(
                ErrandRow(id=row.id, at=row.at, is_done=row.is_done, body=row.body) for row in known
            ),
        )
    except msgspec.DecodeError as error:
        raise StoreLostError(
            f"the database has an entry that this version cannot read ({error}): use the version that wrote "
            "it, or move the database away and start again; then all is read anew from GitLab"
        ) from error


def replace_log(connection: Connection, snapshot: bytes) -> None:
    """Put a snapshot in the place of the observations so far."""
    statement = insert_or_replace(connection, snapshots, ["id"])
    connection.execute(statement, {"id": _SNAPSHOT_ID, "body": snapshot})
    connection.execute(delete(observations))


def add_observations(connection: Connection, new: Sequence[Observation]) -> None:
    """Add to the log, in this order."""
    if new:
        connection.execute(insert(observations), [{"body": _encoder.encode(seen).decode()} for seen in new])


def close_intents(connection: Connection, ids: Sequence[str]) -> None:
    """Forget intents that were carried out or given up."""
    if ids:
        connection.execute(delete(intents).where(intents.c.id.in_(ids)))


def open_intents(connection: Connection, new: Sequence[Intent]) -> None:
    """Remember what is about to be started."""
    if new:
        rows = [
            {
                "id": item.id,
                "project_id": item.project_id,
                "source": item.source,
                "at": item.at,
                "body": _encoder.encode(item).decode(),
            }
            for item in new
        ]
        connection.execute(insert(intents), rows)


def note_errands(connection: Connection, rows: Sequence[ErrandRow]) -> None:
    """Remember how far errands are; forget the oldest of those that are done."""
    if not rows:
        return
    statement = insert_or_replace(connection, errands, ["id"])
    connection.execute(statement, [msgspec.structs.asdict(row) for row in rows])
    newest = select(errands.c.id).where(errands.c.is_done).order_by(errands.c.at.desc()).limit(ERRANDS_MAX)
    connection.execute(delete(errands).where(errands.c.is_done, errands.c.id.not_in(newest)))


def set_watermarks(connection: Connection, times: Mapping[str, float]) -> None:
    """Remember up to when something was read."""
    if times:
        statement = insert_or_replace(connection, watermarks, ["name"])
        connection.execute(statement, [{"name": name, "at": at} for name, at in times.items()])
