"""The history as a file: JSON lines, appended to by every part that looks at a tag, made short now and then.

A line is `{"ref", "platform", "digest", "seen_at", "clocks", ...}`; times are written as ISO 8601 in UTC, and
read as Unix seconds too. A line that was cut short by a crash is left out, and told.
"""

import contextlib
import fcntl
import os
import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

import msgspec

from imagechain.refs import ReferenceError, parse_reference
from imagechain.vetting.history import History
from imagechain.vetting.values import DAY_SECONDS, Sighting

#: Name of the history that all parts of a machine share, in their `state_dir`.
FILE_NAME = "tags.jsonl"
FILE_BYTES_MAX = 256 * 1024 * 1024
#: A file that is larger is made short when it is opened for writing.
_SHORTEN_BYTES = 8 * 1024 * 1024
#: A digest that has not moved is written down again after this time, so that the watch shows.
AGAIN_SECONDS = DAY_SECONDS
_NOT_ALPHANUMERIC = re.compile(r"[^a-z0-9]+")


class HistoryError(Exception):
    """The history cannot be read or written; the message says where and why."""


class _Line(msgspec.Struct, frozen=True, omit_defaults=True):
    ref: str
    digest: str
    seen_at: str | float
    platform: str = ""
    clocks: dict[str, str | float | None] = {}
    version: str = ""
    base: str = ""
    base_digest: str = ""
    index_digest: str = ""


_decoder = msgspec.json.Decoder(_Line)


class HistoryFile:
    """A history on disk. Several processes may add to one file at once."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> tuple[History, list[str]]:
        """Read it; an absent file is an empty history. With it come sentences on lines that cannot be read.

        Raises:
            HistoryError: it cannot be opened, or is too large.
        """
        try:
            with self.path.open("rb") as file:
                return self._decode(file)
        except FileNotFoundError:
            return History(), []
        except OSError as error:
            raise HistoryError(f"cannot read the history {self.path}: {error.strerror}") from error

    def add(self, sightings: Iterable[Sighting]) -> None:
        """Append those sightings that say something new: a moved digest, a moved clock, or another day.

        Raises:
            HistoryError: it cannot be written; nothing or all of it is there then.
        """
        try:
            if not self.path.parent.exists():
                self.path.parent.mkdir(parents=True, exist_ok=True)
                _give_to_owner_around(self.path.parent)
            with self._locked() as file:
                history, problems = self._decode(file)
                new = [sighting for sighting in sightings if _is_news(history, sighting)]
                if file.tell() > _SHORTEN_BYTES and not problems:
                    self._replace([*history.essential(), *new])
                elif new:
                    self._append(file, new)
        except OSError as error:
            raise HistoryError(
                f"cannot write the history {self.path}: {error.strerror}; name another file with --history, "
                "or another state_dir"
            ) from error

    def _decode(self, file: IO[bytes]) -> tuple[History, list[str]]:
        sightings: list[Sighting] = []
        problems: list[str] = []
        for number, line in enumerate(file, start=1):
            if file.tell() > FILE_BYTES_MAX:
                raise HistoryError(
                    f"the history {self.path} is larger than {FILE_BYTES_MAX} bytes; begin a new one"
                )
            if not line.strip():
                continue
            try:
                sightings.append(_read_line(line))
            except (msgspec.DecodeError, ValueError) as error:
                problems.append(f"{self.path}:{number}: left out: {error}")
        return History(sightings), problems

    @contextlib.contextmanager
    def _locked(self) -> Iterator[IO[bytes]]:
        """Open it for one writer; another may have put a new file in its place meanwhile."""
        while True:
            is_new = not self.path.exists()
            with self.path.open("a+b") as file:
                if is_new:
                    _give_to_owner_around(self.path)
                fcntl.flock(file, fcntl.LOCK_EX)
                if _is_at(file, self.path):
                    file.seek(0)
                    yield file
                    return

    def _append(self, file: IO[bytes], sightings: list[Sighting]) -> None:
        end = file.seek(0, os.SEEK_END)
        text = b"".join(map(_write_line, sightings))
        if end:
            file.seek(end - 1)
            if file.read(1) != b"\n":
                # What a crash left of a line must not spoil the next one.
                text = b"\n" + text
        try:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        except OSError:
            file.truncate(end)
            raise

    def _replace(self, sightings: list[Sighting]) -> None:
        temporary = self.path.with_name(f"{self.path.name}.new")
        try:
            with temporary.open("wb") as file:
                file.writelines(map(_write_line, sightings))
                file.flush()
                os.fsync(file.fileno())
                # Whoever could write to it, such as the service, still can when root made it short.
                with contextlib.suppress(PermissionError):
                    before = self.path.stat()
                    os.fchown(file.fileno(), before.st_uid, before.st_gid)
                    os.fchmod(file.fileno(), before.st_mode & 0o777)
            temporary.replace(self.path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise


def _give_to_owner_around(path: Path) -> None:
    """Give what root made to whom the folder around it belongs: the service adds to the same history."""
    if os.geteuid() == 0:
        around = path.parent.stat()
        os.chown(path, around.st_uid, around.st_gid)


def _is_at(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _is_news(history: History, sighting: Sighting) -> bool:
    runs = history.runs(sighting.ref, sighting.platform)
    if not runs or runs[-1].digest != sighting.digest:
        return True
    last = runs[-1].last
    said = zip(_said(sighting), _said(last), strict=True)
    return (
        sighting.seen_at >= last.seen_at + AGAIN_SECONDS
        or any(runs[-1].clocks.get(name) != at for name, at in sighting.clocks.items())
        or any(now and now != before for now, before in said)
    )


def _said(sighting: Sighting) -> tuple[str, ...]:
    return sighting.index_digest, sighting.version, sighting.base, sighting.base_digest


def _read_line(line: bytes) -> Sighting:
    read = _decoder.decode(line)
    try:
        ref = str(parse_reference(read.ref))
    except ReferenceError as error:
        raise ValueError(str(error)) from error
    return Sighting(
        ref=ref,
        platform=read.platform,
        digest=read.digest,
        seen_at=_read_time(read.seen_at),
        clocks={_clock_name(name): _read_time(at) for name, at in read.clocks.items() if at is not None},
        version=read.version,
        base=read.base,
        base_digest=read.base_digest,
        index_digest=read.index_digest,
    )


def _clock_name(written: str) -> str:
    """Names of clocks are written with any sign between their words: `config.created`, `last_modified`."""
    return _NOT_ALPHANUMERIC.sub("-", written.lower()).strip("-")


def _read_time(value: str | float) -> float:
    if isinstance(value, str):
        parsed = datetime.fromisoformat(value)
        return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
    return float(value)


def _write_line(sighting: Sighting) -> bytes:
    line = _Line(
        ref=sighting.ref,
        platform=sighting.platform,
        digest=sighting.digest,
        seen_at=write_time(sighting.seen_at),
        clocks={name: write_time(at) for name, at in sorted(sighting.clocks.items())},
        version=sighting.version,
        base=sighting.base,
        base_digest=sighting.base_digest,
        index_digest=sighting.index_digest,
    )
    return msgspec.json.encode(line) + b"\n"


def write_time(at: float) -> str:
    """Write a time as ISO 8601 in UTC, to the second."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
