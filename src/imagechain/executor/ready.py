"""Wait until a container that was just started can run scripts: until its keep-alive says so in its log."""

import time
from typing import NamedTuple

from imagechain.executor.errors import BuildFailureError
from imagechain.executor.processes import Process, find, of_container
from imagechain.executor.shell import last_lines, ready_shell
from imagechain.executor.state import Container, name

_POLL_SECONDS = 0.005
_LOG_BYTES_MAX = 1024 * 1024
_LOG_LINES_MAX = 20


def marker(key: str) -> str:
    """Return what the keep-alive of a job's containers says when it is ready."""
    return f"ready-{key}"


def started(folder: str, kind: str) -> Process | None:
    """Return the first process of a container that podman has just started; None if it ended already."""
    try:
        with open(f"{folder}/{kind}.pid") as file:
            return find(int(file.read()))
    except (OSError, ValueError):
        return None


class Start(NamedTuple):
    """A container that podman has just started."""

    folder: str
    kind: str
    key: str
    #: Where its log began when it was started.
    log_start: int = 0

    def wait(self, timeout_seconds: float) -> Container:
        """Return the container with its shell and what runs in it now.

        Raises:
            BuildFailureError: its entrypoint ended, or has not started the shell in time.
        """
        deadline = time.monotonic() + timeout_seconds
        init = started(self.folder, self.kind)
        while True:
            # In this order: a container may say that it is ready, and end, between two looks.
            lives = init is not None and init.lives
            log = self._log()
            shell = ready_shell(log, marker(self.key))
            if init is not None and lives and shell:
                return Container(name(self.key, self.kind), shell, init, tuple(of_container(init)))
            if not lives:
                raise BuildFailureError(f"ended before it started a shell. It said:\n{_said(log)}")
            if time.monotonic() >= deadline:
                raise BuildFailureError(
                    f"has not started a shell within {timeout_seconds:g} s; an entrypoint must end by running"
                    f' its arguments (`exec "$@"`). It said:\n{_said(log)}'
                )
            time.sleep(_POLL_SECONDS)

    def _log(self) -> str:
        try:
            with open(f"{self.folder}/{self.kind}.log", "rb") as file:
                file.seek(self.log_start)
                return file.read(_LOG_BYTES_MAX).decode(errors="replace")
        except FileNotFoundError:
            return ""


def _said(log: str) -> str:
    return last_lines(log, _LOG_LINES_MAX) or "(nothing)"
