"""What is kept between runs: when each target was last brought up to date, for schedules, and what is held.

One run at a time on a machine.
"""

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import msgspec

_SYNCED = "synced.json"
_HELD = "held.json"
_LOCK = "lock"
_FILE_BYTES_MAX = 16 * 1024 * 1024

T = TypeVar("T")


class Held(msgspec.Struct, frozen=True):
    """What did not pass its vetting."""

    digest: str
    why: str
    #: Unix time.
    vetted_at: float


class MirrorStateError(Exception):
    """The state cannot be read or written, or another run is at it; the message says what to do."""


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other runs out.

    Raises:
        MirrorStateError: one is at it already, or the folder cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise MirrorStateError(
            f"cannot write to {folder}: {error.strerror}; set state_dir in the settings"
        ) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise MirrorStateError(f"another `mirror sync` is at work (it holds {folder / _LOCK})") from None
    finally:
        os.close(descriptor)


def read_synced(folder: Path) -> dict[str, float]:
    """Read when each target was last brought up to date (Unix time).

    Raises:
        MirrorStateError: the file cannot be read.
    """
    return _read(folder / _SYNCED, dict[str, float], "every schedule begins anew")


def write_synced(folder: Path, synced: Mapping[str, float]) -> None:
    """Write it, whole or not at all."""
    _write(folder / _SYNCED, synced)


def read_held(folder: Path) -> dict[str, Held]:
    """Read what did not pass its vetting, by the tag of the target.

    Raises:
        MirrorStateError: the file cannot be read.
    """
    return _read(folder / _HELD, dict[str, Held], "what is held is vetted again")


def write_held(folder: Path, held: Mapping[str, Held]) -> None:
    """Write it, whole or not at all."""
    _write(folder / _HELD, held)


def _read(file: Path, wanted: type[dict[str, T]], without: str) -> dict[str, T]:
    try:
        with file.open("rb") as stream:
            return msgspec.json.decode(stream.read(_FILE_BYTES_MAX), type=wanted)
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MirrorStateError(f"cannot read {file}: {error}; remove it: {without}") from error


def _write(file: Path, value: Mapping[str, object]) -> None:
    fresh = file.with_suffix(".new")
    try:
        fresh.write_bytes(msgspec.json.encode(dict(sorted(value.items()))))
        fresh.replace(file)
    except OSError as error:
        fresh.unlink(missing_ok=True)
        raise MirrorStateError(
            f"cannot write {file}: {error.strerror}; all will be looked at again"
        ) from error
