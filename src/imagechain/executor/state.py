"""A job between two of its stages, and after a crash: one file in its folder, without any secret.

Every start of a stage pays for what is imported here, hence no pathlib.
"""

import json
import os
import time
from typing import NamedTuple

from imagechain.executor.errors import SystemFailureError
from imagechain.executor.processes import Process

#: Tells later stages the folder of their job; `config` hands it to the runner, and no job can set it.
FOLDER_VARIABLE = "IMAGECHAIN_EXECUTOR_JOB"
#: How long after its time-out a job may still run; then its containers end by themselves.
DEADLINE_MARGIN_SECONDS = 600

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
    #: A file that the runner removes when it is done with this attempt.
    attempt: str = ""
    services: int = 0
    #: Empty where the job shares a network that is not its own.
    network: str = ""
    #: The images of the services if the job wants to see their logs (`CI_DEBUG_SERVICES`).
    shown_services: tuple[str, ...] = ()
    builds_volume: str = ""
    #: Whether later jobs of the project get the same builds, so that they need to fetch less.
    builds_kept: bool = False
    cache_volume: str = ""
    build: Container | None = None
    helper: Container | None = None

    @property
    def lives(self) -> bool:
        """Whether its runner still exists and works on it, and its time is not over."""
        return self.runner.lives and time.time() < self.deadline and not self._is_over()

    def _is_over(self) -> bool:
        """Tell whether the runner has removed its file; where that cannot be seen, it has not."""
        try:
            # The runner's /tmp may be another one than that of who asks.
            os.stat(f"/proc/{self.runner.pid}/root{self.attempt}")
        except OSError as error:
            return isinstance(error, FileNotFoundError)
        return False

    @property
    def container_names(self) -> list[str]:
        """The names of all containers that it may have."""
        services = [name(self.key, f"service-{number}") for number in range(self.services)]
        return [name(self.key, "build"), name(self.key, "helper"), *services]


def name(key: str, kind: str) -> str:
    """Return the name of one thing of a job in podman."""
    return f"imagechain-{key}-{kind}"


def save(folder: str, state: JobState) -> None:
    """Write the state of a job so that a crash leaves the old or the new one.

    Raises:
        SystemFailureError: it cannot be written.
    """
    path = f"{folder}/{_JOB_FILE}"
    try:
        with open(f"{path}.new", "w") as file:
            json.dump(state._asdict(), file)
        os.replace(f"{path}.new", path)
    except OSError as error:
        raise SystemFailureError(f"cannot write {path}: {error.strerror}") from error


def load(folder: str) -> JobState | None:
    """Read the state of a job; None if there is none that can be read."""
    try:
        with open(f"{folder}/{_JOB_FILE}") as file:
            table = json.load(file)
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
