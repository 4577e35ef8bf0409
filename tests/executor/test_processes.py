"""Whose processes are a container's: those of its namespace and below, and never this machine's."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagechain.executor import processes
from imagechain.executor.processes import Process

_NESTED = "sleep 41 & unshare --pid --fork sleep 42 & wait"
_SLEEPERS = {"sleep 41 ", "sleep 42 "}


@pytest.fixture
def container() -> Iterator[Process]:
    """The first process of a namespace in which two others run, and one in a namespace below."""
    if os.geteuid() != 0:
        pytest.skip("a pid namespace needs root")
    outer = subprocess.Popen(["unshare", "--pid", "--fork", "sh", "-c", _NESTED], process_group=0)
    children = Path(f"/proc/{outer.pid}/task/{outer.pid}/children")
    give_up = time.monotonic() + 30
    while not (pids := children.read_text().split()) or not set(_commands(int(pids[0]))) >= _SLEEPERS:
        assert time.monotonic() < give_up
        time.sleep(0.02)
    init = processes.find(int(pids[0]))
    assert init is not None
    yield init
    os.killpg(outer.pid, signal.SIGKILL)
    outer.wait()


def _commands(pid: int) -> list[str]:
    found = processes.of_container(processes.find(pid) or Process(pid, 0))
    return sorted(Path(f"/proc/{process.pid}/cmdline").read_text().replace("\0", " ") for process in found)


def test_all_of_a_namespace_and_of_those_below_are_found(container: Process) -> None:
    commands = _commands(container.pid)
    assert [command.split()[0] for command in commands] == ["sh", "sleep", "sleep", "unshare"]


def test_they_end_and_the_spared_ones_do_not(container: Process) -> None:
    spared = [process for process in processes.of_container(container) if "41" in _command(process)]
    assert processes.end(container, [container, *spared], grace_seconds=5) >= 2
    assert spared[0].lives
    assert container.lives
    assert set(processes.of_container(container)) == {container, *spared}


def test_a_container_in_the_namespace_of_this_machine_has_none_that_could_be_ended() -> None:
    ourselves = processes.find(os.getpid())
    assert ourselves is not None
    assert processes.of_container(ourselves) == []


def _command(process: Process) -> str:
    return Path(f"/proc/{process.pid}/cmdline").read_text()
