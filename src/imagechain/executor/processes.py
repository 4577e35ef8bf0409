"""Processes as the kernel shows them in /proc: who lives, who is in a container, and how to end them.

A process is a pid with its start time, for pids come again. The processes of a container are those of its pid
namespace and their descendants: control groups would be the usual way, but without root on version 1 a
container has none of its own. The owner of a user namespace may look into it and signal there, so that none
of this needs podman.
"""

import contextlib
import os
import signal
import time
from collections.abc import Collection
from typing import NamedTuple

_POLL_SECONDS = 0.05
#: The kernel's flag (PF_EXITING) of a process that has begun to end.
_EXITING = 0x4


class Process(NamedTuple):
    """A process that cannot be mistaken for a later one with the same pid."""

    pid: int
    #: When it started, in clock ticks since the machine did.
    started: int

    @property
    def lives(self) -> bool:
        """Whether it still runs."""
        return find(self.pid) == self


def find(pid: int) -> Process | None:
    """Return the process that has this pid now; a zombie is none, nor is one that is about to end.

    The first process of a container ends after all others: who looks when a script was killed with its
    container would still find it.
    """
    fields = _stat(pid)
    if not fields or fields[0] == "Z" or int(fields[6]) & _EXITING:
        return None
    return Process(pid, int(fields[19]))


def runner() -> Process:
    """Return the process that will outlive this stage: the first ancestor outside of this process group.

    The runner starts each stage in a process group of its own; a wrapper script in between belongs to it.
    """
    pid, group = os.getppid(), os.getpgrp()
    while (fields := _stat(pid)) and int(fields[2]) == group and int(fields[1]) > 1:
        pid = int(fields[1])
    return find(pid) or Process(pid, 0)


def of_container(init: Process) -> list[Process]:
    """Return all processes of the container whose first process this is."""
    space, ours = _pid_namespace(init.pid), _pid_namespace(os.getpid())
    # With our own namespace, "all processes of the container" would be those of the machine.
    if space is None or space == ours or not init.lives:
        return []
    parents: dict[int, int] = {}
    found: dict[int, Process] = {}
    inside: set[int] = set()
    for name in os.listdir("/proc"):
        pid = int(name) if name.isdecimal() else 0
        # Nothing in a container can have a child outside of it; most of a large machine is passed over here.
        if not pid or (other := _pid_namespace(pid)) == ours:
            continue
        fields = _stat(pid)
        if not fields or fields[0] == "Z":
            continue
        parents[pid] = int(fields[1])
        found[pid] = Process(pid, int(fields[19]))
        if other == space:
            inside.add(pid)
    # A container in the container has a namespace of its own, but its first process has a parent in this one.
    return [process for pid, process in found.items() if _descends(pid, inside, parents)]


def end(init: Process, spared: Collection[Process], grace_seconds: float) -> int:
    """End what runs in a container besides the spared: TERM, after the grace KILL; return how many."""
    hit: set[Process] = set()
    deadline = time.monotonic() + grace_seconds
    while targets := [process for process in of_container(init) if process not in spared and process != init]:
        late = time.monotonic() >= deadline
        for process in targets:
            if late or process not in hit:
                _send(process, signal.SIGKILL if late else signal.SIGTERM)
        hit.update(targets)
        if late and time.monotonic() >= deadline + grace_seconds + 1:
            break  # what not even KILL ends waits in the kernel, and dies as soon as that lets it go
        time.sleep(_POLL_SECONDS)
    return len(hit)


def killed_for_memory(init: Process) -> bool:
    """Tell whether the kernel has killed any process of this container for want of memory.

    Podman does not know: it looks at a container's first process only.
    """
    try:
        with open(f"/proc/{init.pid}/cgroup") as file:
            groups = [line.rstrip("\n").split(":", 2) for line in file]
    except OSError:
        return False
    for number, controllers, path in groups:
        if number == "0" and not controllers:
            events = f"/sys/fs/cgroup{path}/memory.events"
        elif "memory" in controllers.split(","):
            events = f"/sys/fs/cgroup/memory{path}/memory.oom_control"
        else:
            continue
        with contextlib.suppress(OSError), open(events) as file:
            counts = dict(line.split() for line in file)
            return int(counts.get("oom_kill", 0)) > 0
    return False


def _send(process: Process, number: signal.Signals) -> None:
    # With a descriptor in hand the pid cannot come to mean another process between the look and the signal.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        descriptor = os.pidfd_open(process.pid)
        try:
            if process.lives:
                signal.pidfd_send_signal(descriptor, number)
        finally:
            os.close(descriptor)


def _descends(pid: int, inside: set[int], parents: dict[int, int]) -> bool:
    seen = 0
    while pid in parents and seen <= len(parents):
        if pid in inside:
            return True
        pid, seen = parents[pid], seen + 1
    return False


def _pid_namespace(pid: int) -> int | None:
    try:
        return os.stat(f"/proc/{pid}/ns/pid").st_ino
    except OSError:
        return None


def _stat(pid: int) -> list[str] | None:
    """Return the fields of /proc/PID/stat from the state (the third) on."""
    try:
        with open(f"/proc/{pid}/stat", errors="replace") as file:
            text = file.read()
    except OSError:
        return None
    # The name before them is in parentheses and may itself hold blanks and parentheses.
    return text.rpartition(")")[2].split()
