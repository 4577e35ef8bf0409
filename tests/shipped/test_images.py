"""The images of imagechain itself: built by its own chain from a tree without git, and run."""

import errno
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from executor.machine import Machine
from imagechain.testing import Role, SimulatedGitLab
from imagechain.testing.server import serving
from shipped.units import UNITS, allowed_calls, keys_of

TOP = Path(__file__).parents[2]
PREFIX = "registry.example.com/images"
SECRET = "0123456789abcdef0123456789abcdef"

pytestmark = pytest.mark.builds


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    """A machine on which `prepare` and `up` ran in a copy of what git has of this checkout."""
    for program in ("apt-get", "mmdebstrap", "buildah", "podman", "runc", "systemd-analyze"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed, and the images are built and run with it")
    if os.getuid() != 0:
        pytest.skip("podman's containers on the network of the machine are tried as root only")
    folder = tmp_path_factory.mktemp("images")
    machine = Machine(folder / "machine")
    checkout = copy_of_checkout(folder / "checkout")
    environment = {
        **os.environ,
        **machine.environment,
        "HOME": os.environ.get("HOME", "/root"),
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "BUILDAH_ISOLATION": "chroot",
        "XDG_STATE_HOME": str(folder / "state"),
        "XDG_CACHE_HOME": str(folder / "cache"),
    }
    for command in (["packaging/images/prepare"], ["imagechain", "up", "packaging/images"]):
        done = subprocess.run(
            command, cwd=checkout, env=environment, capture_output=True, text=True, check=False, timeout=900
        )
        if "apt knows no Debian archive" in done.stderr:
            pytest.skip("apt knows no archive here: run apt-get update first")
        assert done.returncode == 0, done.stdout + done.stderr
    yield machine
    machine.remove()


def copy_of_checkout(folder: Path) -> Path:
    """Copy what git has: the copy is no work tree, and nothing that was built here is in it."""
    listed = subprocess.run(
        [
            "git",
            "ls-files",
            "-z",
            "src",
            "examples/group",
            "packaging/images",
            "pyproject.toml",
            "uv.lock",
            "README.md",
            "LICENSE",
        ],
        cwd=TOP,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    for name in listed.rstrip("\0").split("\0"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(TOP / name, folder / name)
    return folder


def test_the_image_runs_as_a_user_without_rights_on_a_root_that_nobody_can_change(machine: Machine) -> None:
    confined = ("run", "--rm", "--read-only", "--cap-drop=all", "--network=none")
    version = machine.podman(*confined, f"{PREFIX}/imagechain", "--version")
    assert version.strip() == (TOP / "src/imagechain/_version.py").read_text().split('"')[-2]
    assert machine.podman(*confined, "--entrypoint=id", f"{PREFIX}/imagechain", "-u").strip() == "900"


def test_the_image_serves_with_a_settings_file_and_secrets(machine: Machine, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    gitlab = SimulatedGitLab(clock=time.time, seed=1)
    bot = gitlab.add_user("imagechain", bot=True)
    gitlab.add_group("images", members={bot: Role.MAINTAINER})
    gitlab.add_project("images/base", files={"Containerfile.in": "FROM scratch\n"})
    secrets = {"gitlab-token": gitlab.add_token(bot).value, "hook-key": SECRET, "api-token": SECRET}
    for name, text in secrets.items():
        (tmp_path / name).write_text(text)
        machine.podman("secret", "create", f"imagechain-{name}", str(tmp_path / name))
    with serving(gitlab) as url:
        (tmp_path / "imagechain.toml").write_text(
            f'[gitlab]\nurl = "{url}"\ngroups = ["images"]\ntoken_file = "gitlab-token"\n'
            f'[server]\nlisten = "127.0.0.1:{port}"\nurl = "http://127.0.0.1:{port}"\n'
            'hook_key_file = "hook-key"\napi_token_file = "api-token"\n'
        )
        machine.podman(
            *("run", "--detach", "--name=service", "--network=host"),
            *options_of_quadlet(),
            f"--security-opt=seccomp={seccomp_of_unit(tmp_path)}",
            f"--volume={tmp_path}/imagechain.toml:/etc/imagechain/imagechain.toml:ro",
            f"{PREFIX}/imagechain",
            *("serve", "--config", "/etc/imagechain/imagechain.toml"),
        )
        try:
            shown = wait_for_status(port)
            assert [one["id"] for one in shown["sources"]] == ["images/base"], machine.podman(
                "logs", "service"
            )
            assert httpx2.get(f"http://127.0.0.1:{port}/healthz", trust_env=False).is_success
        finally:
            machine.podman("rm", "--force", "--time=5", "service")
    assert [hook.url for hook in gitlab.state.hooks.values()] == [f"http://127.0.0.1:{port}/hooks/gitlab"]


def options_of_quadlet() -> list[str]:
    """Say what the quadlet says, as options of podman, without names and addresses of a machine."""
    options = {
        "DropCapability": "--cap-drop={}",
        "Environment": "--env={}",
        "NoNewPrivileges": "--security-opt=no-new-privileges",
        "ReadOnly": "--read-only={}",
        "Secret": "--secret={}",
    }
    keys = keys_of(UNITS / "imagechain.container", "Container")
    return [options[key].format(value) for key, value in keys if key in options]


def seccomp_of_unit(folder: Path) -> Path:
    """Write what systemd makes of the unit's SystemCallFilter: the service has to live with that, too."""
    calls = sorted(allowed_calls(UNITS / "imagechain.service"))
    profile = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": errno.EPERM,
        "syscalls": [{"names": calls, "action": "SCMP_ACT_ALLOW"}],
    }
    (folder / "seccomp.json").write_text(json.dumps(profile))
    return folder / "seccomp.json"


def wait_for_status(port: int) -> dict[str, list[dict[str, str]]]:
    for _ in range(300):
        try:
            answer = httpx2.get(f"http://127.0.0.1:{port}/api/v1/status", trust_env=False)
        except httpx2.TransportError:
            time.sleep(0.1)
            continue
        if answer.is_success and answer.json()["sources"]:
            shown: dict[str, list[dict[str, str]]] = answer.json()
            return shown
        time.sleep(0.1)
    raise AssertionError("the service in the container does not answer")


def test_the_helper_of_the_executor_has_what_its_scripts_need(machine: Machine) -> None:
    run = ("run", "--rm", "--network=none", f"{PREFIX}/runner-helper")
    for command, says in ((["git", "lfs", "version"], "git-lfs/"), (["bash", "--version"], "GNU bash")):
        assert says in machine.podman(*run, *command)
    assert int(machine.podman(*run, "sh", "-c", "ls /etc/ssl/certs | wc -l")) > 50
