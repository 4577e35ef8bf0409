"""Where the local engine keeps what is its own: never in the user's tree.

    <cache>/imagechain/images.json, isolation.json    savings; may be deleted at any time
    <state>/imagechain/<chain>/lock                   held by the one `up` that works on the chain
    <state>/imagechain/<chain>/logs/                  logs of the last builds
    <state>/imagechain/<chain>/runs/<run>/<build>/    what a build needs while it runs
    <state>/imagechain/<chain>/seconds.json           how long builds lasted: a hint for their order
    <state>/imagechain/<chain>/pushed.json            what was pushed: saves pushing it again

A chain is named by its folder and the hash of its real path.
"""

import asyncio
import contextlib
import fcntl
import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

_WAIT_SECONDS = 0.2
_T = TypeVar("_T")


class FolderError(Exception):
    """The engine's own folder cannot be used; the message says why and what to do."""


class Folders(msgspec.Struct, frozen=True):
    """The engine's own folders for one chain."""

    #: The top folder of the chain, which is only read.
    top: Path
    cache: Path
    state: Path

    @property
    def images_file(self) -> Path:
        """Facts of images."""
        return self.cache / "images.json"

    @property
    def seconds_file(self) -> Path:
        """How long builds lasted."""
        return self.state / "seconds.json"

    @property
    def pushed_file(self) -> Path:
        """What was pushed."""
        return self.state / "pushed.json"

    @property
    def logs(self) -> Path:
        """Logs of the last builds."""
        return self.state / "logs"

    @property
    def runs(self) -> Path:
        """What runs need while they last."""
        return self.state / "runs"


def find_folders(top: Path, environ: Mapping[str, str] = os.environ) -> Folders:
    """Find the folders for the chain in `top`, by the XDG base directory rules."""
    real = top.resolve()
    name = f"{real.name or 'root'}-{hashlib.sha256(os.fsencode(real)).hexdigest()[:12]}"
    return Folders(
        top=real,
        cache=_base(environ, "XDG_CACHE_HOME", ".cache"),
        state=_base(environ, "XDG_STATE_HOME", ".local/state") / name,
    )


def _base(environ: Mapping[str, str], variable: str, default: str) -> Path:
    value = environ.get(variable, "")
    # The rules say that a relative path is to be ignored.
    base = Path(value) if value.startswith("/") else Path.home() / default
    return base / "imagechain"


@contextlib.asynccontextmanager
async def locked(folders: Folders, report_waiting: Callable[[int | None], None]) -> AsyncIterator[None]:
    """Hold the lock of a chain; wait for another process that holds it, and say so once."""
    try:
        folders.state.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(folders.state / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise FolderError(
            f"{folders.state} cannot be written: {error.strerror}; free some space, or name another folder "
            "with XDG_STATE_HOME"
        ) from error
    try:
        has_told = False
        while not _try_lock(descriptor):
            if not has_told:
                report_waiting(_read_pid(descriptor))
                has_told = True
            await asyncio.sleep(_WAIT_SECONDS)
        with contextlib.suppress(OSError):  # only for people who wait
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read_pid(descriptor: int) -> int | None:
    text = os.pread(descriptor, 32, 0).decode(errors="replace")
    return int(text) if text.isdecimal() else None


def begin_run(folders: Folders) -> tuple[Path, bool]:
    """Make the folder of a new run, under the lock; tell whether an earlier run left one behind."""
    try:
        folders.runs.mkdir(parents=True, exist_ok=True)
        has_leftovers = any(folders.runs.iterdir())
        run = folders.runs / f"{os.getpid()}-{os.urandom(4).hex()}"
        run.mkdir()
    except OSError as error:
        raise FolderError(
            f"{folders.runs} cannot be written: {error.strerror}; free some space, or name another folder "
            "with XDG_STATE_HOME"
        ) from error
    return run, has_leftovers


def remove_runs(folders: Folders, keep: Path | None) -> None:
    """Remove the folders of runs, under the lock: so none of them is in use but the one to keep."""
    for folder in folders.runs.iterdir():
        if folder != keep:
            shutil.rmtree(folder, ignore_errors=True)


def read_hint(file: Path, type: type[_T], default: _T) -> _T:  # noqa: A002 - as msgspec calls it
    """Read a file that is only a saving: whatever is wrong with it, the default does as well."""
    try:
        return msgspec.json.decode(file.read_bytes(), type=type)
    except (OSError, msgspec.DecodeError):
        return default


def write_hint(file: Path, value: object) -> None:
    """Write a file that is only a saving, at once or not at all."""
    scratch = file.with_name(f"{file.name}.new")
    with contextlib.suppress(OSError):
        scratch.write_bytes(msgspec.json.encode(value))
        scratch.replace(file)
