"""Builds and cascades, for people to look at; nothing is decided by them."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from sqlalchemy import Connection, Row, case, delete, func, select, update

from imagechain.store.sql import insert_or_replace
from imagechain.store.tables import builds
from imagechain.store.values import BuildRow, CascadeRow

#: The newest builds, which are kept.
BUILDS_MAX = 100_000

_columns = [builds.c[name] for name in BuildRow.__struct_fields__]


def note_builds(connection: Connection, rows: Sequence[BuildRow]) -> None:
    """Insert builds, or replace them; forget the oldest."""
    if not rows:
        return
    statement = insert_or_replace(connection, builds, ["source", "id"])
    connection.execute(statement, [msgspec.structs.asdict(row) for row in rows])
    newest = select(func.max(builds.c.number)).scalar_subquery()
    connection.execute(delete(builds).where(builds.c.number <= newest - BUILDS_MAX))


def rename_builds(connection: Connection, names: Mapping[str, str]) -> None:
    """Give builds to the new names of their sources, all at once: two may have changed places."""
    if names:
        name = case(dict(names), value=builds.c.source)
        connection.execute(update(builds).where(builds.c.source.in_(names)).values(source=name))


def latest_builds(connection: Connection, limit: int, source: str | None) -> list[BuildRow]:
    """Give the builds that started last, of one source or of all, the latest first."""
    order = builds.c.started_at.desc().nulls_last(), builds.c.number.desc()
    statement = select(*_columns).order_by(*order).limit(limit)
    if source is not None:
        statement = statement.where(builds.c.source == source)
    return [_build(row) for row in connection.execute(statement)]


def latest_cascades(connection: Connection, limit: int) -> list[CascadeRow]:
    """Give the cascades that began last, with all their builds."""
    began = func.min(builds.c.number)
    ids = (
        connection.execute(
            select(builds.c.cascade)
            .where(builds.c.cascade.is_not(None))
            .group_by(builds.c.cascade)
            .order_by(began.desc())
            .limit(limit)
        )
        .scalars()
        .all()
    )
    members: dict[str | None, list[BuildRow]] = {id: [] for id in ids}
    statement = select(*_columns).where(builds.c.cascade.in_(ids)).order_by(builds.c.number)
    for row in connection.execute(statement):
        members[row.cascade].append(_build(row))
    return [_cascade(id, rows) for id, rows in members.items() if id is not None]


def _build(row: Row[Any]) -> BuildRow:
    return BuildRow(**row._asdict())


def _cascade(id: str, members: Sequence[BuildRow]) -> CascadeRow:
    ends = [row.finished_at for row in members]
    return CascadeRow(
        id=id,
        cause=members[0].cause,
        started_at=min((row.started_at for row in members if row.started_at is not None), default=0.0),
        finished_at=None if None in ends else max(end for end in ends if end is not None),
        builds=tuple(members),
    )
