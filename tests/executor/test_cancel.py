"""Cancelling and time-outs: the script ends, its container does not, and it is never a success."""

import time
from typing import TYPE_CHECKING

import pytest

from executor.emulator import Attempt, Hook, Runner, bash, response
from executor.machine import Machine

if TYPE_CHECKING:
    import subprocess

_STUBBORN = "trap '' TERM; echo started; while :; do sleep 0.2; done"
_LEFT = "ps | grep -v grep | grep -E 'sleep (0.2|99)' && echo left || echo clean"


def _cancel_during(stage_to_cancel: str, after_seconds: float, *, gracefully: bool = True) -> Hook:
    def during(attempt: Attempt, stage: str, process: "subprocess.Popen[bytes]") -> None:
        if stage == stage_to_cancel:
            time.sleep(after_seconds)
            attempt.cancel(process, gracefully=gracefully)

    return during


@pytest.mark.parametrize(
    "script",
    [
        "sleep 99",
        "sleep 99 & sleep 99 & wait",
        "setsid sleep 99 & setsid nohup sleep 99 > /dev/null 2>&1 & sleep 99",
    ],
)
def test_a_cancelled_script_ends_with_all_it_started_and_after_script_still_runs(
    runner: Runner, script: str
) -> None:
    played = runner.play(
        response(),
        {
            "build_script": bash(script),
            "after_script": bash(_LEFT),
            "cleanup_file_variables": bash("echo end"),
        },
        during=_cancel_during("build_script", 0.8),
    )
    assert played.status == "canceled"
    assert played.codes["build_script"] not in {0, 1}
    assert "clean\nend\n" in played.log, played.log
    assert played.seconds["build_script"] < 6
    assert runner.machine.listing("ps", "--all") == []


def test_a_script_that_ignores_being_cancelled_is_killed(runner: Runner) -> None:
    played = runner.play(
        response(),
        {"build_script": bash(_STUBBORN), "after_script": bash(_LEFT)},
        during=_cancel_during("build_script", 0.8),
    )
    assert "started\n" in played.log
    assert "clean\n" in played.log, played.log
    assert played.seconds["build_script"] < 15


@pytest.mark.parametrize("stage", ["config", "prepare", "build_script"])
@pytest.mark.parametrize("after_seconds", [0.0, 0.05, 0.2])
def test_a_time_out_at_any_moment_is_no_success_and_leaves_nothing(
    runner: Runner, stage: str, after_seconds: float
) -> None:
    played = runner.play(
        response(),
        {"build_script": bash("sleep 99")},
        during=_cancel_during(stage, after_seconds, gracefully=False),
    )
    assert played.codes[stage] != 0 or (stage == "config" and after_seconds)  # it may have ended before
    assert runner.machine.listing("ps", "--all") == []
    assert not list((runner.machine.folder / "state/jobs").glob("*"))


def test_a_container_ends_by_itself_when_its_deadline_is_over(machine: Machine, runner: Runner) -> None:
    created: list[str] = []

    def look(attempt: Attempt, stage: str, process: "subprocess.Popen[bytes]") -> None:
        if stage == "build_script":
            created.extend(
                machine.podman("inspect", "--format={{.Config.Timeout}}", str(container["Id"])).strip()
                for container in machine.listing("ps")
            )

    runner.play(response(runner_info={"timeout": 77}), {"build_script": bash("true")}, during=look)
    assert created == ["677", "677"]
