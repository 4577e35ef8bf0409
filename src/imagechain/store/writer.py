"""One thread that writes: what waits is written in one transaction, and answered after its commit.

Many small writes (hints) cost one flush of the disk together, and on SQLite there is one writer anyway.

    write() ──► queue (bounded) ──► thread: BEGIN, all that waits, COMMIT ──► results, in the caller's loop

A write is a function and an argument; neighbours with the same function are done by one call. When a
transaction fails because of one of them, each is tried again alone, so that it fails alone.
"""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any, NamedTuple, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from imagechain.store.errors import StoreBusyError, StoreFullError, StoreLostError, store_error

#: Writes that wait; beyond, callers are refused. Four transactions' worth: even when each of them waits for
#: a lock in vain, the last is answered before GitLab gives up (10 s).
QUEUE_WRITES_MAX = 2_048
TRANSACTION_WRITES_MAX = 512

A = TypeVar("A")
R = TypeVar("R")
#: Does a write for each argument, and returns a result for each.
Apply = Callable[[Connection, Sequence[A]], Sequence[R]]


class _Write(NamedTuple):
    apply: Apply[Any, Any]
    argument: Any
    loop: asyncio.AbstractEventLoop
    future: asyncio.Future[Any]


class _Outcome(NamedTuple):
    write: _Write
    result: Any
    error: Exception | None


class Writer:
    """The thread, from the first moment to `close`."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._queue: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._is_closed = False
        #: Nothing gets into the queue behind its end, where nobody would answer it.
        self._gate = threading.Lock()
        self._thread = threading.Thread(target=self._run, name="store-writer", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Write what waits, then end; what comes after is refused."""
        with self._gate:
            self._is_closed = True
            self._queue.put(None)
        self._thread.join()

    async def write(self, apply: Apply[A, R], argument: A) -> R:
        """Do one write, and return its result once it is committed.

        Raises:
            StoreError: nothing was written; or, if the connection broke at the end, nobody knows.
        """
        if self._queue.qsize() >= QUEUE_WRITES_MAX:
            raise StoreBusyError(f"{QUEUE_WRITES_MAX} writes wait already: the disk does not keep up")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[R] = loop.create_future()
        with self._gate:
            if self._is_closed:
                raise StoreBusyError("the store is closed")
            self._queue.put(_Write(apply, argument, loop, future))
        return await future

    # --- the thread -------------------------------------------------------------------------------------

    def _run(self) -> None:
        while batch := self._next_batch():
            for loop, outcomes in groupby(self._carry_out(batch), key=lambda outcome: outcome.write.loop):
                _answer(loop, list(outcomes))

    def _next_batch(self) -> list[_Write]:
        """Wait for a write, and take what waits behind it; an empty list is the end."""
        batch: list[_Write] = []
        while len(batch) < TRANSACTION_WRITES_MAX and (not batch or not self._queue.empty()):
            write = self._queue.get()
            if write is None:
                if batch:
                    self._queue.put(None)
                break
            batch.append(write)
        return batch

    def _carry_out(self, batch: Sequence[_Write]) -> list[_Outcome]:
        try:
            return self._transaction(batch)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer to those who wait
            cause = _told(error)
            is_common = isinstance(cause, StoreBusyError | StoreFullError | StoreLostError)
            if len(batch) == 1 or is_common:
                return [_Outcome(write, None, cause) for write in batch]
        return [outcome for write in batch for outcome in self._carry_out([write])]

    def _transaction(self, batch: Sequence[_Write]) -> list[_Outcome]:
        outcomes: list[_Outcome] = []
        with self._engine.begin() as connection:
            for apply, group in groupby(batch, key=lambda write: write.apply):
                writes = list(group)
                results = apply(connection, [write.argument for write in writes])
                outcomes += [
                    _Outcome(write, result, None) for write, result in zip(writes, results, strict=True)
                ]
        return outcomes


def _told(error: Exception) -> Exception:
    if isinstance(error, DBAPIError):
        told: Exception = store_error(error)
    elif isinstance(error, PoolTimeoutError):
        told = StoreBusyError("the database has no connection free")
    else:
        return error
    told.__cause__ = error
    return told


def _answer(loop: asyncio.AbstractEventLoop, outcomes: Sequence[_Outcome]) -> None:
    """Wake those who wait, with one call for all of them."""
    with contextlib.suppress(RuntimeError):  # In a loop that was closed, nobody waits any more.
        loop.call_soon_threadsafe(_settle, outcomes)


def _settle(outcomes: Sequence[_Outcome]) -> None:
    for write, result, error in outcomes:
        if write.future.done():
            continue  # The caller went away; what was written stays.
        if error is not None:
            write.future.set_exception(error)
        else:
            write.future.set_result(result)
