"""The folder `state_dir`: everything that the executor itself keeps on the disk.

jobs/<job>/job.json     one job: its runner, deadline and containers; written before anything is made
jobs/<job>/*.log, *.pid logs and pids of its containers, written by conmon
volumes/<name>          when a volume of builds or caches was last used (the file's time)
images/<id>             the same for an image that the executor pulled; the file holds its name
helper/                 the root of a helper without an image (`host_helper.py`); no job's files are in it
lock                    held while volumes are chosen or removed
"""

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator

from imagechain.executor.errors import SystemFailureError

#: Label of everything that is ours; its value tells executors with different state folders apart.
LABEL = "dev.imagechain.executor"


class StateFolder:
    """The folder `state_dir`."""

    def __init__(self, path: str) -> None:
        """Name it; it is made when first written to."""
        self.path = path

    @property
    def label(self) -> str:
        """The label of everything in podman that belongs to this folder."""
        place = hashlib.sha256(os.path.realpath(self.path).encode()).hexdigest()[:12]
        return f"{LABEL}={place}"

    @property
    def helper_root(self) -> str:
        """The root folder of all helpers that have no image."""
        return f"{self.path}/helper"

    def job(self, key: str) -> str:
        """Return the folder of a job."""
        return f"{self.path}/jobs/{key}"

    def jobs(self) -> list[str]:
        """Return the folders of all jobs."""
        return [self.job(key) for key in _names(f"{self.path}/jobs")]

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the lock: nobody else chooses or removes a volume meanwhile."""
        _make(self.path)
        with open(f"{self.path}/lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def make_job(self, key: str) -> str:
        """Make the folder of a job."""
        folder = self.job(key)
        _make(folder)
        return folder

    def touch(self, kind: str, thing: str, text: str = "") -> None:
        """Note that a volume or an image is in use now."""
        _make(f"{self.path}/{kind}")
        path = f"{self.path}/{kind}/{thing}"
        if os.path.exists(path):
            os.utime(path)
        else:
            with open(path, "w") as file:
                file.write(text)

    def used(self, kind: str) -> dict[str, float]:
        """Return the volumes or images that we know, each with the time of its last use."""
        times = {}
        for thing in _names(f"{self.path}/{kind}"):
            with contextlib.suppress(FileNotFoundError):
                times[thing] = os.stat(f"{self.path}/{kind}/{thing}").st_mtime
        return times

    def forget(self, kind: str, thing: str) -> None:
        """Drop a volume or an image that is gone."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{self.path}/{kind}/{thing}")


def _names(path: str) -> list[str]:
    try:
        return sorted(os.listdir(path))
    except FileNotFoundError:
        return []


def _make(path: str) -> None:
    try:
        os.makedirs(path, mode=0o700, exist_ok=True)
    except OSError as error:
        raise SystemFailureError(
            f"cannot make the folder {path}: {error.strerror}; set state_dir to one that this user may write"
        ) from error
