"""What the service tells systemd: that it is ready, lives, stops (sd_notify)."""

import signal
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagechain.service.systemd import notify, watchdog_seconds
from service.program import free_port, gitlab_with_projects, service, write_settings

_SECONDS_MAX = 60


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """What systemd listens on. Not in pytest's folder: the path of such a socket has at most 107 bytes."""
    with (
        tempfile.TemporaryDirectory(prefix="imagechain-") as folder,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound,
    ):
        bound.bind(f"{folder}/notify")
        bound.settimeout(_SECONDS_MAX)
        yield bound


def heard(listener: socket.socket) -> str:
    return listener.recv(1_000).decode()


def test_serve_tells_that_it_is_ready_lives_and_stops(tmp_path: Path, listener: socket.socket) -> None:
    port = free_port()
    environment = {"NOTIFY_SOCKET": listener.getsockname(), "WATCHDOG_USEC": "200000"}
    with gitlab_with_projects() as (_, url, token):
        config = write_settings(tmp_path, url, token, port)
        with service(config, port, environment) as process:
            assert heard(listener) == "READY=1"
            assert [heard(listener), heard(listener)] == ["WATCHDOG=1", "WATCHDOG=1"]
            process.send_signal(signal.SIGTERM)
            assert process.wait(_SECONDS_MAX) == 0
    told = heard(listener)
    while told == "WATCHDOG=1":
        told = heard(listener)
    assert told == "STOPPING=1"


def test_names_without_a_file_are_abstract_sockets() -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        # Empty: the kernel chooses an abstract name.
        bound.bind("")
        bound.settimeout(_SECONDS_MAX)
        assert notify("READY=1", {"NOTIFY_SOCKET": "@" + bound.getsockname()[1:].decode()})
        assert heard(bound) == "READY=1"


def test_without_systemd_nothing_is_told() -> None:
    assert not notify("READY=1", {})
    assert watchdog_seconds({}) is None


def test_the_watchdog_of_another_process_is_not_fed() -> None:
    assert watchdog_seconds({"WATCHDOG_USEC": "60000000"}) == 60
    assert watchdog_seconds({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}) is None
