"""The real store without its threads: for simulations, whose time jumps instead of waiting for anything."""

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from sqlalchemy import Connection, event, select

from imagechain.store import Store
from imagechain.store.database import Database, open_database
from imagechain.store.memory import load_memory
from imagechain.store.migrate import migrate
from imagechain.store.tables import hints
from imagechain.store.writer import Apply

A = TypeVar("A")
R = TypeVar("R")


def open_inline(url: str) -> "InlineStore":
    """Open a database as `open_store` does."""
    database = open_database(url)
    with database.writing.begin() as connection:
        migrate(connection)
    return InlineStore(database)


class InlineStore(Store):
    """Does each call at once, in the transaction of its own that the writer's thread would give it.

    Attributes:
        step: is called before each statement that writes and before each commit: a place to be killed at.
    """

    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._writer.close()
        setattr(self._writer, "write", self._write_now)  # noqa: B010 - in place of the thread
        self.step: Callable[[], None] = _go_on
        event.listen(database.writing, "before_cursor_execute", self._step)
        event.listen(database.writing, "commit", self._step)

    def _step(self, *_: Any) -> None:
        self.step()

    def _present(self, connection: Connection, now: float) -> float:  # noqa: ARG002 - time is virtual
        return now

    async def _write_now(self, apply: Apply[A, R], argument: A) -> R:
        with self._database.writing.begin() as connection:
            (result,) = apply(connection, [argument])
        return result

    async def _read(self, query: Callable[[Connection], R]) -> R:
        return self._query(query)

    @property
    def intents(self) -> Sequence[object]:
        """The intents that are open."""
        return self._query(load_memory).intents

    @property
    def inbox(self) -> Sequence[int]:
        """The hints that wait."""
        return self._query(
            lambda connection: connection.execute(select(hints.c.id).where(~hints.c.is_done)).scalars().all()
        )


def _go_on() -> None:
    """Nobody is killed."""
