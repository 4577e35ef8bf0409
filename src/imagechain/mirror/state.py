"""When each target was last brought up to date, for schedules; and one run at a time on a machine."""

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

_FILE = "synced.json"
_LOCK = "lock"
_FILE_BYTES_MAX = 16 * 1024 * 1024

_decoder = msgspec.json.Decoder(dict[str, float])


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
    file = folder / _FILE
    try:
        with file.open("rb") as stream:
            return _decoder.decode(stream.read(_FILE_BYTES_MAX))
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MirrorStateError(
            f"cannot read {file}: {error}; remove it: every schedule begins anew"
        ) from error


def write_synced(folder: Path, synced: Mapping[str, float]) -> None:
    """Write it, whole or not at all."""
    file = folder / _FILE
    fresh = file.with_suffix(".new")
    try:
        fresh.write_bytes(msgspec.json.encode(dict(sorted(synced.items()))))
        fresh.replace(file)
    except OSError as error:
        raise MirrorStateError(f"cannot write {file}: {error.strerror}") from error
