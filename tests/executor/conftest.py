import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from executor.emulator import Runner
from executor.machine import Machine

#: A user that need not exist; its podman maps this one id only.
ROOTLESS_UID = 4242


def needs_root_and_podman() -> None:
    missing = [name for name in ("podman", "runc", "busybox", "setpriv") if shutil.which(name) is None]
    if missing:
        pytest.skip(f"these programs are missing: {', '.join(missing)}")
    if os.geteuid() != 0:
        pytest.skip("networks of podman need root, and so does becoming a user without it")


@pytest.fixture(scope="session")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    needs_root_and_podman()
    machine = Machine(tmp_path_factory.mktemp("machine"))
    machine.make_image("localhost/shell")
    yield machine
    machine.remove()


@pytest.fixture
def settings(tmp_path: Path, machine: Machine) -> Path:
    return write_settings(tmp_path / "executor.toml", machine)


def write_settings(path: Path, machine: Machine, more: str = "") -> Path:
    path.write_text(
        'helper_image = "localhost/shell"\nrunner_binary = ""\n'
        'allowed_images = ["localhost/**", "127.0.0.1:*/**"]\n'
        'allowed_services = ["localhost/**"]\n'
        f'state_dir = "{machine.folder}/state"\n{more}'
    )
    return path


def user_runner(machine: Machine, settings: Path) -> Runner:
    """Return a runner of a user who cannot read the checkout: there is a copy beside the machine."""
    runner = Runner(machine, settings)
    runner.python = [_python_for_all(), *runner.python[1:]]
    runner.source = str(machine.folder.parent / "src")
    return runner


def _python_for_all() -> str:
    """Return an interpreter that another user may run; the tests' own may be in somebody's home."""
    for python in (sys.executable, "/usr/bin/python3"):
        done = subprocess.run(
            ["setpriv", f"--reuid={ROOTLESS_UID}", f"--regid={ROOTLESS_UID}", "--clear-groups", "sh", "-c",
             f"{python} -c 'import sys; sys.exit(sys.version_info < (3, 11))'"],
            check=False,
            capture_output=True,
        )  # fmt: skip
        if done.returncode == 0:
            return python
    pytest.skip("no Python 3.11 that another user may run was found")


@pytest.fixture
def runner(machine: Machine, settings: Path) -> Runner:
    return Runner(machine, settings)


@pytest.fixture(autouse=True)
def _beside_others(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let a test that asks for `alone` wait until no other worker of pytest uses podman.

    The stores of two workers know nothing of each other's bridges, and may pick the same name for theirs.
    """
    with (Path(tempfile.gettempdir()) / "imagechain-tests-podman.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX if "alone" in request.fixturenames else fcntl.LOCK_SH)
        yield


@pytest.fixture
def alone() -> None:
    """Ask that no other test uses podman meanwhile."""
