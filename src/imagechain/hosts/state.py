"""What outlives a run: held digests, when digests were first seen, and the journals of updates.

    <state_dir>/hosts/lock                     held by the one run that changes something
    <state_dir>/hosts/<user>/memory.json       held digests, first sight of digests, what digests hold
    <state_dir>/hosts/<user>/journal/<n>.json  an update that has begun; gone when it is finished or undone

A journal is on the disk before the step that it tells of. No file holds the value of a variable.
"""

import asyncio
import contextlib
import fcntl
import os
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

_WAIT_SECONDS = 0.2
#: Digests that are remembered, the longest known forgotten first.
DIGESTS_MAX = 10_000
_FILE_BYTES_MAX = 16 * 1024 * 1024
_T = TypeVar("_T")


class StateError(Exception):
    """The state folder cannot be read or written; the message says what to do."""


class Held(msgspec.Struct, frozen=True):
    """A digest that was rolled back."""

    reference: str
    container: str
    why: str
    #: Unix time.
    at: float


class Memory(msgspec.Struct, frozen=True):
    """What is remembered of digests."""

    #: Rolled back: by digest.
    held: dict[str, Held] = {}
    #: Unix time of the first sight of a digest.
    first_seen: dict[str, float] = {}
    #: Digest of an index or manifest -> id of the image in it for this host, where that was found out.
    holds: dict[str, str] = {}


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """One container of an update that has begun."""

    name: str
    old_id: str
    #: Whether it is to run; else it is only made.
    is_started: bool
    old_image: str
    new_image: str
    #: What it was made from; empty: an image that is not updated.
    reference: str
    #: Hash of the command that makes the new one, so that it is known again.
    command_hash: str = ""
    #: Where its id is written for others; empty: nowhere.
    cid_file: str = ""


class Journal(msgspec.Struct, frozen=True, kw_only=True):
    """An update that has begun."""

    id: str
    #: `begun`: to be undone; `started`: the new ones run, and the gate decides; `passed`: to be finished.
    phase: Literal["begun", "started", "passed"] = "begun"
    #: In the order in which they are started.
    parts: tuple[Part, ...]
    #: The systemd unit that makes them anew; empty: their own commands do.
    unit: str = ""
    #: Digests that are held if this fails.
    digests: tuple[str, ...] = ()
    begun_at: float = 0.0


class StateFolder:
    """The state of one user's containers on the disk."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._journals = folder / "journal"

    def prepare(self) -> None:
        """Make the folder; nobody else may read it. Raises `StateError`."""
        with _told(self._folder):
            self._journals.mkdir(parents=True, exist_ok=True, mode=0o700)

    def memory(self) -> Memory:
        """Read what is remembered. Raises `StateError`: what was held must not be forgotten silently."""
        file = self._folder / "memory.json"
        return _read(file, Memory) if file.exists() else Memory()

    def remember(self, memory: Memory) -> None:
        """Write what is remembered. Raises `StateError`."""
        kept = msgspec.structs.replace(
            memory,
            first_seen=dict(list(memory.first_seen.items())[-DIGESTS_MAX:]),
            holds=dict(list(memory.holds.items())[-DIGESTS_MAX:]),
        )
        _write(self._folder / "memory.json", kept)

    def journals(self) -> list[Journal]:
        """Read the updates that a run before this one began and did not end. Raises `StateError`."""
        if not self._journals.is_dir():
            return []
        return [_read(file, Journal) for file in sorted(self._journals.glob("*.json"))]

    def write(self, journal: Journal) -> None:
        """Write down how far an update is; it is on the disk when this returns. Raises `StateError`."""
        _write(self._journals / f"{journal.id}.json", journal)

    def close(self, journal: Journal) -> None:
        """Forget an update: it is finished or undone. Raises `StateError`."""
        with _told(self._journals):
            (self._journals / f"{journal.id}.json").unlink(missing_ok=True)


@contextlib.asynccontextmanager
async def locked(folder: Path, tell_waiting: Callable[[], None]) -> AsyncIterator[None]:
    """Hold the lock of all updates on this host; wait for another run that holds it, and say so once."""
    descriptor = _open_lock(folder)
    try:
        has_told = False
        while not _try_lock(descriptor):
            if not has_told:
                tell_waiting()
                has_told = True
            await asyncio.sleep(_WAIT_SECONDS)
        yield
    finally:
        os.close(descriptor)


def _open_lock(folder: Path) -> int:
    with _told(folder):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(file: Path, kind: type[_T]) -> _T:
    with _told(file):
        data = file.read_bytes()[: _FILE_BYTES_MAX + 1]
    try:
        return msgspec.json.decode(data, type=kind)
    except msgspec.DecodeError as error:
        raise StateError(
            f"{file} cannot be read: {error}; look at the containers by hand, then remove the file"
        ) from error


def _write(file: Path, value: object) -> None:
    """Write a file at once or not at all, and wait until it is on the disk."""
    scratch = file.with_name(f"{file.name}.new")
    with _told(file):
        descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(msgspec.json.encode(value))
            stream.flush()
            os.fsync(descriptor)
        scratch.replace(file)
        folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StateError(
            f"{path} cannot be used: {error.strerror}; free some space, or name another state_dir"
        ) from error
