"""The same without root: a user whose podman maps one id and has no control groups of its own."""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from executor.conftest import ROOTLESS_UID, needs_root_and_podman, user_runner, write_settings
from executor.emulator import Attempt, Runner, bash, response
from executor.machine import Machine
from imagechain.executor import host_helper

_SOURCE = Path(__file__).parents[2] / "src"


@pytest.fixture(scope="module")
def rootless() -> Iterator[Machine]:
    needs_root_and_podman()
    # Not below pytest's own folder, which every pytest that starts closes to other users.
    top = Path(tempfile.mkdtemp(prefix="imagechain-rootless-"))
    top.chmod(0o755)
    # The checkout may be in somebody's home.
    shutil.copytree(_SOURCE, top / "src", ignore=shutil.ignore_patterns("__pycache__"))
    folder = top / "machine"
    machine = Machine(folder, uid=ROOTLESS_UID)
    try:
        machine.make_image("localhost/shell")
        machine.podman("run", "--rm", "--network=none", "localhost/shell", "true")
    except (AssertionError, subprocess.TimeoutExpired) as error:
        pytest.skip(f"podman does not run without root on this machine: {error}")
    yield machine
    machine.podman("unshare", "rm", "-rf", str(folder / "graph"), check=False)
    machine.remove()
    shutil.rmtree(top, ignore_errors=True)


@pytest.fixture
def runner(rootless: Machine) -> Runner:
    # Without /dev/net/tun there is no network here; the rest is the same.
    return user_runner(rootless, write_settings(rootless.folder / "e.toml", rootless, 'network = "none"\n'))


def test_a_job_runs_and_its_cache_is_collected_without_root(runner: Runner) -> None:
    played = runner.play(
        response(),
        {
            "get_sources": bash("echo source > file"),
            "build_script": bash("id -u; cat file; echo kept > /cache/file; exit 7"),
            "after_script": bash("echo after"),
        },
    )
    assert (played.reason, played.exit_code) == ("script_failure", 7), played.log
    assert "0\nsource\n" in played.log
    assert "after\n" in played.log
    machine = runner.machine
    assert machine.listing("ps", "--all") == []
    assert len(machine.podman("volume", "ls", "--quiet").split()) == 2
    text = runner.settings.read_text()
    runner.settings.write_text(f'{text}[cache]\nage_max = "0s"\n')
    said = runner.collect_garbage()
    assert machine.podman("volume", "ls", "--quiet").split() == [], said


def test_git_of_this_machine_is_the_helper_without_root(rootless: Machine) -> None:
    if lacking := host_helper.missing():
        pytest.skip(f"this machine cannot be its own helper for want of {lacking}")
    settings = write_settings(rootless.folder / "host.toml", rootless, 'network = "none"\n')
    settings.write_text(settings.read_text().replace('helper_image = "localhost/shell"\n', ""))
    played = user_runner(rootless, settings).play(
        response(),
        {
            "get_sources": bash("git init --quiet . && echo source > file"),
            "build_script": bash("cat file .git/HEAD"),
        },
    )
    assert played.status == "success", played.log
    assert "source\nref: refs/heads/" in played.log
    assert rootless.listing("ps", "--all") == []


def test_a_cancelled_script_ends_without_root(runner: Runner) -> None:
    def cancel(attempt: Attempt, stage: str, process: "subprocess.Popen[bytes]") -> None:
        if stage == "build_script":
            time.sleep(1)
            attempt.cancel(process)

    played = runner.play(
        response(),
        {
            "build_script": bash("setsid sleep 99 & sleep 99"),
            "after_script": bash("ps | grep -v grep | grep 'sleep 99' || echo clean"),
        },
        during=cancel,
    )
    assert played.status == "canceled"
    assert played.codes["build_script"] not in {0, 1}
    assert "clean\n" in played.log, played.log
    assert runner.machine.listing("ps", "--all") == []


def test_without_a_runtime_folder_the_failure_says_how_to_get_one(runner: Runner) -> None:
    runner.environment = {"XDG_RUNTIME_DIR": ""}
    played = runner.play(response(), {})
    assert (played.reason, played.attempts) == ("runner_system_failure", 3)
    assert "XDG_RUNTIME_DIR is not set" in played.log
    assert "loginctl enable-linger" in played.log


def test_without_a_range_of_user_ids_automatic_namespaces_are_a_system_failure(
    runner: Runner, rootless: Machine
) -> None:
    settings = write_settings(rootless.folder / "auto.toml", rootless, 'network = "none"\nuserns = "auto"\n')
    played = user_runner(rootless, settings).play(response(), {"build_script": bash("true")})
    assert played.reason == "runner_system_failure", played.log
    assert "`podman run` ended with exit code" in played.log
