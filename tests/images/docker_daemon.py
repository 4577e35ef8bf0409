"""A Docker daemon of the tests' own, beside that of the machine; it sets up no network."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

_START_SECONDS_MAX = 30.0
_STOP_SECONDS_MAX = 20.0
_FLAGS = (
    *("--iptables=false", "--ip6tables=false", "--bridge=none", "--storage-driver=vfs"),
    # What containers may have where the tests themselves run in one.
    *("--default-ulimit=nofile=1024:1024", "--default-ulimit=nproc=4096:4096"),
)


@pytest.fixture(scope="session")
def docker_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A daemon that docker talks to, as long as the session lasts."""
    if missing := [program for program in ("docker", "dockerd", "containerd") if not shutil.which(program)]:
        pytest.skip(f"{', '.join(missing)} not installed (Debian: docker.io): no real docker is tested")
    if os.getuid() != 0:
        pytest.skip("not root: no daemon can be started, so no real docker is tested")
    folder = tmp_path_factory.mktemp("docker")
    log = folder / "log"
    places = [f"--{name}-root={folder / name}" for name in ("data", "exec")]
    argv = ["dockerd", *_FLAGS, *places, f"--pidfile={folder / 'pid'}", f"--host=unix://{folder / 'socket'}"]
    with (
        log.open("wb") as stream,
        subprocess.Popen(argv, stdout=stream, stderr=stream) as daemon,
        pytest.MonkeyPatch.context() as patch,
    ):
        try:
            patch.setenv("DOCKER_HOST", f"unix://{folder / 'socket'}")
            for name in ("DOCKER_CONTEXT", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH", "DOCKER_BUILDKIT"):
                patch.delenv(name, raising=False)
            _wait(daemon, log)
            yield
        finally:
            daemon.terminate()
            try:
                daemon.wait(_STOP_SECONDS_MAX)
            except subprocess.TimeoutExpired:
                daemon.kill()


@pytest.fixture
def docker(docker_daemon: None) -> Iterator[None]:
    """The daemon, which has no images at the end of the test."""
    yield
    subprocess.run(["docker", "system", "prune", "--all", "--force"], capture_output=True, check=True)
    ids = subprocess.run(["docker", "image", "ls", "--quiet"], capture_output=True, check=True).stdout.split()
    if ids:
        subprocess.run(["docker", "image", "rm", "--force", *set(ids)], capture_output=True, check=True)


def needs_buildx() -> None:
    """Skip a test where docker has no buildx."""
    if subprocess.run(["docker", "buildx", "version"], capture_output=True, check=False).returncode != 0:
        pytest.skip("docker has no buildx (Debian 13: docker-buildx): it is not tested")


def _wait(daemon: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS_MAX
    while subprocess.run(["docker", "version"], capture_output=True, check=False).returncode != 0:
        if daemon.poll() is not None or time.monotonic() > deadline:
            last = log.read_text(errors="replace").strip().splitlines()[-1:]
            pytest.skip(f"dockerd does not run here: {''.join(last)}")
        time.sleep(0.2)
