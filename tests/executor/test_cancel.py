"""Cancelling and time-outs: the script ends, its container does not, and it is never a success."""

import time
from typing import TYPE_CHECKING

import pytest

from executor.emulator import Attempt, Hook, Runner, bash, response
from executor.machine import Machine

if TYPE_CHECKING:
    import subprocess
import sys

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


#: The deadline of a real job is ten minutes behind its time-out.
_SHORT_DEADLINE = (
    "from imagechain.executor import state; state.DEADLINE_MARGIN_SECONDS = 1;"
    "from imagechain.executor.main import main; main()"
)


def test_containers_end_by_themselves_at_the_deadline_when_all_who_knew_of_them_are_gone(
    machine: Machine, runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner.python = [sys.executable, "-c", _SHORT_DEADLINE]
    running: list[str] = []

    def lose_driver(_: Attempt, stage: str, process: "subprocess.Popen[bytes]") -> None:
        if stage == "build_script":
            time.sleep(0.5)
            running.extend(machine.podman("ps", "--quiet").split())
            process.kill()

    # The runner is lost, too: nobody cleans up.
    monkeypatch.setattr(Attempt, "__exit__", lambda *_: None)
    script = bash("trap '' TERM; setsid sleep 99 & sleep 99")
    runner.play(response(runner_info={"timeout": 3}), {"build_script": script}, during=lose_driver)
    monkeypatch.undo()
    assert len(running) == 2
    give_up = time.monotonic() + 60
    while machine.podman("ps", "--quiet") and time.monotonic() < give_up:
        time.sleep(0.2)
    assert machine.podman("ps", "--quiet").split() == []
    assert machine.podman("ps", "--all", "--quiet").split() != []
    runner.collect_garbage()
    assert machine.podman("ps", "--all", "--quiet").split() == []
