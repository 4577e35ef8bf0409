"""What the executor knows about its jobs between two stages, and after a crash: files under `state_dir`.

    jobs/<job>/job.json     one job: its runner, deadline and containers; written before anything is created
    jobs/<job>/*.log, *.pid logs and pids of its containers, written by conmon
    volumes/<name>          when a volume of builds or caches was last used (the file's time)
    images/<id>             the same for an image that the executor pulled; the file holds its name
    lock                    held while volumes are chosen or removed

No secret is ever written here. Names and labels of everything in podman are made here too.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from imagechain.executor.errors import SystemFailureError
from imagechain.executor.processes import Process

#: Tells later stages the folder of their job; `config` hands it to the runner, and no job can set it.
FOLDER_VARIABLE = "IMAGECHAIN_EXECUTOR_JOB"
#: How long after its time-out a job may still run; then its containers end by themselves.
DEADLINE_MARGIN_SECONDS = 600
#: Label of everything that is ours; its value tells executors with different state folders apart.
LABEL = "dev.imagechain.executor"

_JOB_FILE = "job.json"


class Container(NamedTuple):
    """A running container in which stages of the job run."""

    name: str
    shell: str
    init: Process
    #: What ran when the container was ready: its init, its keep-alive, and what the entrypoint left running.
    spared: tuple[Process, ...]


class JobState(NamedTuple):
    """A job, as far as later stages and the garbage collection need to know it."""

    key: str
    runner: Process
    deadline: float
    services: int = 0
    #: Empty where the job shares a network that is not its own.
    network: str = ""
    builds_volume: str = ""
    #: Whether later jobs of the project get the same builds, so that they need to fetch less.
    builds_kept: bool = False
    cache_volume: str = ""
    build: Container | None = None
    helper: Container | None = None

    @property
    def lives(self) -> bool:
        """Whether its runner still exists and its time is not over."""
        return self.runner.lives and time.time() < self.deadline

    @property
    def container_names(self) -> list[str]:
        """The names of all containers that it may have."""
        services = [name(self.key, f"service-{number}") for number in range(self.services)]
        return [name(self.key, "build"), name(self.key, "helper"), *services]


def name(key: str, kind: str) -> str:
    """Return the name of one thing of a job in podman."""
    return f"imagechain-{key}-{kind}"


class StateFolder:
    """The folder `state_dir`."""

    def __init__(self, path: str) -> None:
        """Name it; it is made when first written to."""
        self.path = Path(path)

    @property
    def label(self) -> str:
        """The label of everything in podman that belongs to this folder."""
        place = hashlib.sha256(os.path.realpath(self.path).encode()).hexdigest()[:12]
        return f"{LABEL}={place}"

    def job(self, key: str) -> Path:
        """Return the folder of a job."""
        return self.path / "jobs" / key

    def jobs(self) -> list[Path]:
        """Return the folders of all jobs."""
        with contextlib.suppress(FileNotFoundError):
            return sorted((self.path / "jobs").iterdir())
        return []

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock: nobody else chooses or removes a volume meanwhile."""
        self._make(self.path)
        with (self.path / "lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def make_job(self, key: str) -> Path:
        """Make the folder of a job, new and empty."""
        folder = self.job(key)
        shutil.rmtree(folder, ignore_errors=True)
        self._make(folder)
        return folder

    def touch(self, kind: str, thing: str, text: str = "") -> None:
        """Note that a volume or an image is in use now."""
        self._make(self.path / kind)
        path = self.path / kind / thing
        if path.exists():
            os.utime(path)
        else:
            path.write_text(text)

    def used(self, kind: str) -> dict[str, float]:
        """Return the volumes or images that we know, each with the time of its last use."""
        with contextlib.suppress(FileNotFoundError):
            return {path.name: path.stat().st_mtime for path in (self.path / kind).iterdir()}
        return {}

    def forget(self, kind: str, thing: str) -> None:
        """Drop a volume or an image that is gone."""
        (self.path / kind / thing).unlink(missing_ok=True)

    def _make(self, path: Path) -> None:
        try:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise SystemFailureError(
                f"cannot make the folder {path}: {error.strerror};"
                " set state_dir to one that this user may write"
            ) from error


def save(folder: Path, state: JobState) -> None:
    """Write the state of a job so that a crash leaves the old or the new one.

    Raises:
        SystemFailureError: it cannot be written.
    """
    path, new = folder / _JOB_FILE, folder / f"{_JOB_FILE}.new"
    try:
        new.write_text(json.dumps(state._asdict()))
        new.replace(path)
    except OSError as error:
        raise SystemFailureError(f"cannot write {path}: {error.strerror}") from error


def load(folder: Path) -> JobState | None:
    """Read the state of a job; None if there is none that can be read."""
    try:
        table = json.loads((folder / _JOB_FILE).read_text())
        for kind in ("build", "helper"):
            if table[kind] is not None:
                container_name, shell, init, spared = table[kind]
                table[kind] = Container(
                    container_name, shell, Process(*init), tuple(Process(*process) for process in spared)
                )
        table["runner"] = Process(*table["runner"])
        return JobState(**table)
    except (OSError, ValueError, TypeError, KeyError):
        return None
