"""Whose fault a failure is: the exit codes that decide about retries, `allow_failure` and blame."""

import os
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

from executor.conftest import write_settings
from executor.emulator import Attempt, Played, Runner, bash, response
from executor.machine import Machine


@pytest.mark.parametrize("code", [1, 2, 42, 125, 126, 137, 255])
def test_a_script_keeps_its_own_exit_code(runner: Runner, code: int) -> None:
    played = runner.play(
        response(), {"build_script": bash(f"exit {code}"), "after_script": bash("echo after")}
    )
    assert (played.status, played.reason, played.exit_code) == ("failed", "script_failure", code), played.log
    assert "after\n" in played.log


def test_each_failure_overwrites_the_exit_code_of_an_earlier_one(runner: Runner) -> None:
    # The runner never empties the file: a failed get_sources, tried again, must not leave its code behind.
    played = runner.play(
        response(), {"get_sources": bash("exit 9"), "cleanup_file_variables": bash("exit 3")}
    )
    assert (played.reason, played.exit_code) == ("script_failure", 9)


def test_stages_of_the_helper_run_in_the_helper_and_share_the_builds(
    machine: Machine, runner: Runner
) -> None:
    machine.make_image("localhost/other", files={"marker": "in the job's image"})
    played = runner.play(
        response(image={"name": "localhost/other"}),
        {
            "get_sources": bash("test ! -e /marker; echo source > file; umask"),
            "build_script": bash("cat /marker file; umask"),
            "archive_cache": bash("test ! -e /marker; echo kept > /cache/file"),
            "step_unknown": bash("cat /cache/file; cat /marker"),
        },
    )
    assert played.status == "success", played.log
    assert "in the job's imagesource" in played.log
    assert "0000" in played.log


def test_a_container_that_is_killed_is_a_system_failure_and_the_job_goes_on_in_it(
    machine: Machine, runner: Runner
) -> None:
    played = runner.play(
        response(),
        {
            "build_script": bash("touch here; kill -9 -1; sleep 1"),
            "after_script": bash("ls here; echo after"),
        },
    )
    # Process 1 is the keep-alive of the container, and KILL from inside never reaches it.
    assert played.reason in {"runner_system_failure", "script_failure"}
    assert "after\n" in played.log, played.log


def test_a_container_that_is_killed_from_outside_is_a_system_failure(
    machine: Machine, runner: Runner
) -> None:
    def kill(attempt: Attempt, stage: str, process: "subprocess.Popen[bytes]") -> None:
        if stage == "build_script":
            time.sleep(0.7)
            machine.podman("kill", _build_container(machine))

    played = runner.play(
        response(),
        {"build_script": bash("touch here; sleep 30"), "after_script": bash("ls here; echo after")},
        during=kill,
    )
    assert (played.status, played.reason) == ("failed", "runner_system_failure"), played.log
    assert "was ended while its script ran" in played.log
    assert "it was started again" in played.log
    assert "here\nafter\n" in played.log


def test_a_container_that_is_removed_is_a_system_failure(machine: Machine, runner: Runner) -> None:
    def remove(attempt: Attempt, stage: str, process: "subprocess.Popen[bytes]") -> None:
        if stage == "build_script":
            time.sleep(0.7)
            machine.podman("rm", "--force", "--time=0", _build_container(machine))

    played = runner.play(response(), {"build_script": bash("sleep 30")}, during=remove)
    assert (played.status, played.reason) == ("failed", "runner_system_failure"), played.log


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"image": {"name": "dir:/etc"}}, "is not the name of an image"),
        ({"image": {"name": "docker.io/library/alpine"}}, "is not allowed on this runner"),
        ({"image": {"name": "localhost/missing"}}, "is not on this machine"),
        ({"image": None}, "names no `image:`"),
        ({"image": {"name": "localhost/shell", "pull_policy": ["never"]}}, "asks for the pull policy"),
        (
            {"image": {"name": "localhost/shell", "executor_opts": {"docker": {"user": "nobody-there"}}}},
            "user",
        ),
        ({"image": {"name": "localhost/shell", "entrypoint": ["/missing"]}}, "the entrypoint ['/missing']"),
        ({"image": {"name": "localhost/shell", "entrypoint": ["false"]}}, "the entrypoint ['false']"),
        ({"services": [{"name": "docker.io/x/y"}]}, "the service 'docker.io/x/y' is not allowed"),
        ({"services": [{"name": "localhost/shell"}] * 21}, "this runner allows 20"),
    ],
)
def test_what_the_job_asks_for_in_vain_is_a_build_failure_at_the_first_attempt(
    runner: Runner, changes: dict[str, object], said: str
) -> None:
    played = runner.play(response(**changes), {"build_script": bash("true")})
    assert (played.status, played.reason, played.attempts) == ("failed", "script_failure", 1), played.log
    assert said in played.log
    assert runner.machine.listing("ps", "--all") == []


def test_an_image_without_a_shell_is_a_build_failure_that_says_so(machine: Machine, runner: Runner) -> None:
    machine.make_image("localhost/no-shell", shell=False)
    played = runner.play(response(image={"name": "localhost/no-shell"}), {})
    assert (played.reason, played.attempts) == ("script_failure", 1)
    assert "needs a shell named `sh`" in played.log


def test_an_image_for_another_platform_is_a_build_failure_that_says_so(
    machine: Machine, runner: Runner
) -> None:
    foreign = "arm64" if os.uname().machine == "x86_64" else "amd64"
    machine.make_image(
        "localhost/foreign", platform=foreign, shell=False, files={"bin/sh": "\x7fELF nonsense"}
    )
    played = runner.play(response(image={"name": "localhost/foreign"}), {})
    assert (played.reason, played.attempts) == ("script_failure", 1), played.log
    assert f"the image is for linux/{foreign}" in played.log
    asked = {"name": "localhost/shell", "executor_opts": {"docker": {"platform": f"linux/{foreign}"}}}
    played = runner.play(response(image=asked), {})
    assert (played.reason, played.attempts) == ("script_failure", 1), played.log


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("imge = 'x'", "did you mean 'image'"),
        ('runner_binary = "/missing"', "the runner_binary /missing does not exist"),
        (
            'runner_binary = ""\nhelper_image = "localhost/missing"',
            "localhost/missing:latest is not on this machine",
        ),
    ],
)
def test_broken_settings_are_a_system_failure_that_says_what_to_mend(
    machine: Machine, tmp_path: Path, text: str, said: str
) -> None:
    path = tmp_path / "broken.toml"
    path.write_text(f'state_dir = "{machine.folder}/state"\nallowed_images = ["localhost/**"]\n{text}\n')
    played = Runner(machine, path).play(response(), {})
    assert (played.reason, played.attempts) == ("runner_system_failure", 3), played.log
    assert said in played.log


def test_a_missing_podman_is_a_system_failure_that_names_doctor(runner: Runner, tmp_path: Path) -> None:
    runner.environment = {"PATH": str(tmp_path)}
    runner.python = [os.path.realpath(runner.python[0]), *runner.python[1:]]
    played = runner.play(response(), {})
    assert (played.reason, played.attempts) == ("runner_system_failure", 3), played.log
    assert "podman is not installed" in played.log
    assert "doctor" in played.log


def test_a_podman_that_is_too_old_is_a_system_failure_that_says_so(runner: Runner, tmp_path: Path) -> None:
    old = tmp_path / "podman"
    old.write_text("#!/bin/sh\necho 'Error: unknown flag: --no-healthcheck' >&2\nexit 125\n")
    old.chmod(0o755)
    runner.environment = {"PATH": f"{tmp_path}:/usr/bin:/bin"}
    played = runner.play(response(), {})
    assert played.reason == "runner_system_failure"
    assert "podman 4.0 or newer is needed" in played.log


def test_run_without_prepare_is_a_system_failure_that_names_what_the_runner_lacks(runner: Runner) -> None:
    done = subprocess.run(
        [*runner.python, "run", "/nonexistent", "build_script"],
        env=runner.machine.environment | {"PYTHONPATH": "src"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "config_exec and prepare_exec" in done.stderr


def test_a_driver_that_is_killed_leaves_no_script_running(machine: Machine, runner: Runner) -> None:
    def kill(attempt: Attempt, stage: str, process: "subprocess.Popen[bytes]") -> None:
        if stage == "build_script":
            time.sleep(0.7)
            os.kill(process.pid, signal.SIGKILL)

    played = runner.play(
        response(),
        {"build_script": bash("while sleep 0.1; do date > beat; done"), "after_script": bash(_STILL_BEATS)},
        during=kill,
    )
    assert (played.codes["build_script"], played.reason) == (-9, "runner_system_failure")
    assert "quiet\n" in played.log, played.log


_STILL_BEATS = "ps | grep -v grep | grep 'sleep 0.1' && echo beating || echo quiet"


def test_four_jobs_of_one_project_at_once_do_not_share_their_builds(runner: Runner) -> None:
    results: dict[int, Played] = {}

    def play(number: int) -> None:
        script = bash(f"test ! -e mine; echo {number} > mine; sleep 1; cat mine; rm mine")
        results[number] = runner.play(response(id=number), {"build_script": script})

    threads = [threading.Thread(target=play, args=(number,)) for number in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, played in results.items():
        assert played.status == "success", played.log
        assert f"\n{number}\n" in f"\n{played.log}"


def test_a_protected_job_shares_neither_builds_nor_cache_with_others(runner: Runner) -> None:
    protected = response()["git_info"] | {"protected": True}
    look = bash("ls /cache . ; touch /cache/seen here")
    first = runner.play(response(id=1), {"build_script": look})
    second = runner.play(response(id=2, git_info=protected), {"build_script": look})
    third = runner.play(response(id=3), {"build_script": look})
    assert "seen" not in second.log
    assert "here" not in second.log
    assert "seen" in third.log
    assert "here" in third.log
    assert first.status == second.status == third.status == "success"


def test_limits_of_the_settings_hold(machine: Machine, tmp_path: Path) -> None:
    settings = write_settings(
        tmp_path / "e.toml", machine, "read_only = true\nlimits = {nofile = 99, nproc = 99}\n"
    )
    played = Runner(machine, settings).play(
        response(),
        {"build_script": bash("ulimit -n; touch /file || echo refused; touch /tmp/file && echo fine")},
    )
    assert played.status == "success", played.log
    assert "99\n" in played.log
    assert "refused\nfine\n" in played.log


def test_a_script_that_was_killed_for_memory_says_so(machine: Machine, tmp_path: Path) -> None:
    settings = write_settings(tmp_path / "e.toml", machine, 'limits = {memory = "32MiB"}\n')
    played = Runner(machine, settings).play(
        response(),
        # The shell keeps what it reads, and is a child: the container stays.
        {"build_script": bash("sh -c 'head -c 200000000 /dev/zero | tr \\\\0 x | { read -r all; }'")},
    )
    assert (played.reason, played.exit_code) == ("script_failure", 137), played.log
    assert "wanted more memory than its limit allows" in played.log


def test_the_init_reaps_what_scripts_leave_behind(machine: Machine, tmp_path: Path) -> None:
    script = "sh -c 'sleep 0.1 & exit'; sleep 0.5; ps -o stat | grep -c '^Z' || true; cat /proc/1/comm"
    logs = []
    for init in ("true", "false"):
        settings = write_settings(tmp_path / f"{init}.toml", machine, f"init = {init}\n")
        logs.append(Runner(machine, settings).play(response(), {"build_script": bash(script)}).log)
    assert "\n0\npodman-init\n" in logs[0]
    assert "podman-init" not in logs[1]


def test_further_options_of_podman_reach_the_container(machine: Machine, tmp_path: Path) -> None:
    settings = write_settings(
        tmp_path / "e.toml",
        machine,
        'extra_args = ["--cpuset-cpus=0", "--hostname=ci", "--group-add=4242"]\n',
    )
    played = Runner(machine, settings).play(
        response(), {"build_script": bash("hostname; id -G; grep Cpus_allowed_list /proc/self/status")}
    )
    assert played.status == "success", played.log
    assert "ci\n" in played.log
    assert "4242" in played.log
    assert "Cpus_allowed_list:\t0\n" in played.log


def _build_container(machine: Machine) -> str:
    return next(
        str(name)
        for container in machine.listing("ps")
        for name in container["Names"]  # type: ignore[attr-defined]
        if str(name).endswith("-build")
    )
