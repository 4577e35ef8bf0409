"""Containers of a user without root, looked after by root: podman is run as that user."""

import asyncio
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path

import pytest

from executor.conftest import ROOTLESS_UID, needs_root_and_podman
from executor.machine import Machine
from imagechain.config import HostSettings
from imagechain.config.values import Duration
from imagechain.hosts.clock import SystemClock
from imagechain.hosts.host import Host
from imagechain.hosts.podman import PodmanProgram, User
from imagechain.hosts.run import update
from imagechain.hosts.state import StateFolder
from imagechain.hosts.systemd import SystemdProgram
from imagechain.registry import RegistryClient


@pytest.fixture
def rootless() -> Iterator[Machine]:
    needs_root_and_podman()
    # Not below pytest's own folder, which every pytest that starts closes to other users.
    top = Path(tempfile.mkdtemp(prefix="imagechain-rootless-"))
    top.chmod(0o755)
    machine = Machine(top / "machine", uid=ROOTLESS_UID)
    try:
        machine.make_image("localhost/app", files={"version": "1"})
        machine.podman("run", "--rm", "--network=none", "localhost/app", "true")
    except (AssertionError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"podman does not run without root on this machine: {error}")
    yield machine
    machine.podman("rm", "--all", "--force", "--time=0", check=False)
    machine.podman("unshare", "rm", "-rf", str(machine.folder / "graph"), check=False)
    machine.remove()
    shutil.rmtree(top, ignore_errors=True)


def test_root_keeps_the_containers_of_a_user_without_root(rootless: Machine, tmp_path: Path) -> None:
    prefix = tuple(rootless.as_user(["env", "--chdir=/"]))
    user = User("somebody", prefix, rootless.environment)
    host = Host(
        user=user,
        podman=PodmanProgram(user),
        systemd=SystemdProgram(user, booted=tmp_path / "none"),
        state=StateFolder(tmp_path / "state"),
        make_client=lambda _: RegistryClient(),
        settings=HostSettings(settle=Duration(0.2)),
        clock=SystemClock(),
        timezone=UTC,
    )
    command = ("run", "--detach", "--network=none", "--stop-timeout=1", "--read-only", "--name=web")
    rootless.podman(*command, "localhost/app", "sleep", "1000")
    # An image of this host's own moves when somebody builds it again.
    rootless.make_image("localhost/app", files={"version": "2"})
    result = asyncio.run(update(host, frozenset(), lambda _: None))
    assert [outcome.result for outcome in result.outcomes] == ["updated"], result.outcomes
    assert rootless.podman("exec", "web", "cat", "/version") == "2"
    rootless.make_image("localhost/app", files={"version": "3"}, changes=('ENTRYPOINT ["/missing"]',))
    result = asyncio.run(update(host, frozenset(), lambda _: None))
    assert [outcome.result for outcome in result.outcomes] == ["rolled-back"], result.outcomes
    assert rootless.podman("exec", "web", "cat", "/version") == "2"
    assert rootless.podman("ps", "--all", "--format={{.Names}}").split() == ["web"]
