"""`gc`, the timer's command: remove what dead jobs left, then what has not been used for long.

Only what carries this state folder's label, or is in its index, is ever removed. A job is dead when its
runner is, or when its deadline has passed. What is listed first and looked up among the jobs later cannot be
a new job's: every job is noted before anything of it is made.
"""

import json
import os
import stat
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from imagechain.executor import cleanup, podman, settings, state
from imagechain.executor.arguments import take_settings
from imagechain.executor.errors import ExecutorError, SystemFailureError
from imagechain.executor.folders import LABEL, StateFolder
from imagechain.executor.log import say
from imagechain.executor.settings import Settings

_FAILED = 1
_DRY_RUN = "--dry-run"
#: How long a job's folder may be without a readable state: while it is being written.
_NEW_SECONDS_MAX = 3600


class Kept(NamedTuple):
    """A volume or an image that is kept for later jobs."""

    kind: str
    name: str
    last_used: float
    size_bytes: int


def main(arguments: list[str]) -> int:
    """Collect the garbage; return 1 if something could not be removed."""
    path, rest = take_settings(arguments)
    if rest not in ([], [_DRY_RUN]):
        raise SystemFailureError(f"usage: imagechain-executor gc [--settings FILE] [{_DRY_RUN}]")
    chosen = settings.load(path).base
    if os.geteuid() != 0:
        _become_root_of_containers(path, rest)
    collection = Collection(chosen, time.time(), dry_run=bool(rest))
    collection.run()
    return _FAILED if collection.failed else 0


def _become_root_of_containers(path: str, rest: list[str]) -> None:
    """Start again where the files of rootless containers can be read and removed."""
    argv = [sys.executable, "-m", "imagechain.executor.main", "gc", "--settings", path, *rest]
    # Unlike any call by a job, this is one by a timer or a person, so their environment may be kept.
    kept = {"PYTHONPATH": os.environ["PYTHONPATH"]} if "PYTHONPATH" in os.environ else {}
    try:
        os.execvpe("podman", ["podman", "unshare", *argv], podman.environment() | kept)  # noqa: S606
    except OSError as error:
        raise SystemFailureError(f"podman cannot be started: {error.strerror}") from error


class Collection:
    """One run of the garbage collection."""

    def __init__(self, chosen: Settings, now: float, *, dry_run: bool) -> None:
        """Fix what is too old and too much."""
        self._settings = chosen
        self._state = StateFolder(chosen.state_dir)
        self._now = now
        self._dry_run = dry_run
        self.failed = False

    def run(self) -> None:
        """Remove dead jobs, then what nobody knows, then what is too old or too much."""
        for folder in self._state.jobs():
            self._remove_dead(folder)
        self._remove_orphans("container", self._list("ps", "--all", label_key="Labels", name_key="Names"))
        self._remove_orphans("network", self._list("network", "ls", label_key="labels", name_key="name"))
        self._remove_orphans("volume", self._list("volume", "ls", label_key="Labels", name_key="Name"))
        kept = sorted([*self._kept_volumes(), *self._kept_images()], key=lambda item: item.last_used)
        total = sum(item.size_bytes for item in kept)
        for item in kept:
            age = self._now - item.last_used
            if age > self._settings.cache_age_seconds_max or total > self._settings.cache_bytes_max:
                self._attempt(
                    f"{item.kind} {item.name}, last used {age / 86400:.1f} days ago,"
                    f" {item.size_bytes / (1 << 20):.0f} MiB",
                    lambda item=item: self._remove_kept(item),  # type: ignore[misc]
                )
                total -= item.size_bytes
            elif item.kind == "volume":
                self._remove_old_files(item.name)

    def _attempt(self, what: str, remove: Callable[[], None]) -> None:
        """Remove one thing; what cannot be removed keeps nothing else from it."""
        if self._dry_run:
            say(f"would remove {what}")
            return
        try:
            remove()
            say(f"removed {what}")
        except ExecutorError as error:
            self.failed = True
            say(f"could not remove {what}: {error}")

    def _remove_dead(self, folder: str) -> None:
        job = state.load(folder)
        if job is not None and not job.lives:
            self._attempt(f"job {job.key}", lambda: cleanup.remove(folder, job))
        elif job is None:
            with suppress(FileNotFoundError):
                if self._now - os.stat(folder).st_mtime > _NEW_SECONDS_MAX:
                    self._attempt(f"job {os.path.basename(folder)}", lambda: cleanup.forget(folder))

    def _list(self, *command: str, label_key: str, name_key: str) -> list[tuple[str, dict[str, str]]]:
        listed: list[dict[str, Any]] = (
            json.loads(podman.check(*command, f"--filter=label={self._state.label}", "--format=json") or "[]")
            or []
        )
        return [
            (
                item[name_key][0] if isinstance(item[name_key], list) else item[name_key],
                item.get(label_key) or {},
            )
            for item in listed
        ]

    def _remove_orphans(self, what: str, listed: list[tuple[str, dict[str, str]]]) -> None:
        known = {os.path.basename(folder) for folder in self._state.jobs()}
        passing = {"container", "network"}
        for name, labels in listed:
            if what not in passing and labels.get(f"{LABEL}.kind") != "passing":
                continue
            if labels.get(f"{LABEL}.job") not in known:
                self._attempt(f"{what} {name}", lambda name=name: _remove(what, name))  # type: ignore[misc]

    def _leased(self) -> set[str]:
        jobs = [state.load(folder) for folder in self._state.jobs()]
        return {name for job in jobs if job for name in (job.builds_volume, job.cache_volume)}

    def _kept_volumes(self) -> list[Kept]:
        leased = self._leased()
        kept = []
        for name, last_used in self._state.used("volumes").items():
            if name not in leased:
                root = _mount_point(name)
                if root is None:
                    self._state.forget("volumes", name)
                else:
                    kept.append(Kept("volume", name, last_used, size_bytes(root)))
        return kept

    def _kept_images(self) -> list[Kept]:
        sizes = {
            fields[0].removeprefix("sha256:"): int(fields[1])
            for line in podman.check(
                "images", "--all", "--no-trunc", "--format={{.ID}} {{.VirtualSize}}"
            ).splitlines()
            if len(fields := line.split()) == 2
        }
        kept = []
        for image_id, last_used in self._state.used("images").items():
            if image_id in sizes:
                kept.append(Kept("image", image_id, last_used, sizes[image_id]))
            else:
                self._state.forget("images", image_id)
        return kept

    def _remove_kept(self, item: Kept) -> None:
        if item.kind == "image":
            # Without force: podman refuses one that a container or another name still needs.
            podman.check("rmi", item.name)
            self._state.forget("images", item.name)
            return
        with self._state.locked():
            if item.name in self._leased():
                raise SystemFailureError("a job has just begun to use it")
            _remove("volume", item.name)
            self._state.forget("volumes", item.name)

    def _remove_old_files(self, volume: str) -> None:
        """Remove what is too old out of a cache; nobody else does when a job changes its key."""
        root = _mount_point(volume)
        if root is None or "-cache" not in volume or self._dry_run:
            return
        # Without the lock, for which every job would wait: one that begins meanwhile misses a part of a cache
        # that nobody has used for long, and any part of a cache may be missing.
        count = remove_older(root, self._now - self._settings.cache_age_seconds_max)
        if count:
            say(f"removed {count} old files of volume {volume}")


def size_bytes(root: Path) -> int:
    """Return what a tree takes on the disk; links are not followed, and count as themselves."""
    total = 0
    for _, folders, files, descriptor in os.fwalk(root):
        for name in (*folders, *files):
            with suppress(FileNotFoundError):
                total += os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_blocks * 512
    return total


def remove_older(root: Path, time_limit: float) -> int:
    """Remove the files of a tree that were last used before; return how many.

    Jobs wrote this tree: every step goes through an open folder, and no link is followed.
    """
    count = 0
    for _, folders, files, descriptor in os.fwalk(root, topdown=False):
        for name in (*files, *folders):
            with suppress(OSError):  # gone meanwhile, or a folder that is not empty
                status = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                # A job can set the time of a change as it likes, but not that of the inode's.
                if max(status.st_ctime, status.st_atime) >= time_limit:
                    continue
                if stat.S_ISDIR(status.st_mode):
                    os.rmdir(name, dir_fd=descriptor)
                else:
                    os.unlink(name, dir_fd=descriptor)
                    count += 1
    return count


def _mount_point(volume: str) -> Path | None:
    result = podman.run("volume", "inspect", "--format={{.Mountpoint}}", volume)
    return Path(result.output.strip()) if result.code == 0 else None


def _remove(what: str, name: str) -> None:
    if what == "container":
        podman.check("rm", "--force", "--depend", "--volumes", "--ignore", "--time=0", name)
        return
    result = podman.run(what, "rm", *(["--force"] if what == "network" else []), name)
    if result.code != 0 and not cleanup.is_missing(result.error):
        raise SystemFailureError(result.error.strip())
