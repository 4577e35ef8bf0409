"""GitLab Runner as the custom executor sees it: stages, process groups, signals, attempts, environment.

Played after the runner's `executors/custom/custom.go`, `command/command.go`, `common/build.go` and
`shells/bash.go`; `contracts/custom-executor.md` sums them up.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from executor.machine import Machine

BUILD_FAILURE, SYSTEM_FAILURE = 71, 72
PREPARE_ATTEMPTS = 3
_STAGE_SECONDS_MAX = 300
_PROGRAM = "from imagechain.executor.main import main; main()"
_SOURCE = str(Path(__file__).parents[2] / "src")

Script = str
Hook = Callable[["Attempt", str, "subprocess.Popen[bytes]"], None]


def response(**changes: Any) -> dict[str, Any]:
    """Return GitLab's answer for a small job."""
    table: dict[str, Any] = {
        "id": 4711,
        "token": "job-token-secret",
        "allow_git_fetch": True,
        "job_info": {"name": "test", "stage": "test", "project_id": 23, "project_name": "app"},
        "git_info": {
            "repo_url": "https://gitlab-ci-token:secret@gitlab.example.com/group/app.git",
            "ref": "main",
            "sha": "0" * 40,
            "ref_type": "branch",
            "protected": False,
        },
        "runner_info": {"timeout": 600},
        "variables": [],
        "steps": [],
        "image": {"name": "localhost/shell"},
        "services": [],
        "credentials": [],
    }
    return table | changes


def variable(key: str, value: str, **flags: bool) -> dict[str, Any]:
    """Return one variable of a job."""
    return {"key": key, "value": value, "public": True, "file": False, "masked": False, "raw": False} | flags


def bash(script: str, *, variables: Mapping[str, str] = {}, folder: str = "/builds/group/app") -> str:
    """Return a script as the runner writes it."""

    def quoted(text: str) -> str:
        escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
        return f"$'{escaped}'"

    exports = "".join(f"export {key}={quoted(value)}\n" for key, value in variables.items())
    body = f"{exports}mkdir -p {folder}\ncd {folder}\n{script}\n"
    return (
        "#!/usr/bin/env bash\n\ntrap 'exit 1' TERM\n\n"
        "if set -o | grep pipefail > /dev/null; then set -o pipefail; fi; set -o errexit\n"
        f"set +o noclobber\n(eval {quoted(body)}) < /dev/null\nexit 0\n"
    )


@dataclass
class Played:
    """How a job went."""

    status: str = "success"
    reason: str = ""
    exit_code: int = 0
    attempts: int = 0
    #: Stage -> the executor's exit code, negative for a signal.
    codes: dict[str, int] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    log: str = ""
    config: dict[str, Any] = field(default_factory=dict)


class Runner:
    """A runner with the custom executor configured."""

    def __init__(self, machine: Machine, settings: Path, *, attempt_pause_seconds: float = 0.05) -> None:
        self.machine = machine
        self.settings = settings
        self.temporary = machine.folder / "runner"
        self.temporary.mkdir(exist_ok=True)
        if machine.uid:
            os.chown(self.temporary, machine.uid, machine.uid)
        self.attempt_pause_seconds = attempt_pause_seconds
        self.graceful_kill_seconds = 30.0
        self.python: Sequence[str] = [sys.executable, "-c", _PROGRAM]
        #: Where the driver is imported from.
        self.source = _SOURCE
        self.environment: dict[str, str] = {}

    def collect_garbage(self, *more: str) -> str:
        """Run `gc` as the timer does, and return what it says."""
        done = subprocess.run(
            self.machine.as_user([*self.python, "gc", "--settings", str(self.settings), *more]),
            env=self.machine.environment | {"PYTHONPATH": self.source},
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
            timeout=_STAGE_SECONDS_MAX,
        )
        assert done.returncode == 0, done.stderr
        return done.stderr

    def play(
        self,
        job: dict[str, Any],
        scripts: Mapping[str, Script],
        *,
        custom: Mapping[str, str] = {},
        during: Hook | None = None,
    ) -> Played:
        """Run a job: `scripts` by the names of stages in order; `during` may disturb what is running."""
        played = Played()
        for attempt in range(1, PREPARE_ATTEMPTS + 1):
            played.attempts = attempt
            with Attempt(self, job, custom, played, during) as run:
                code = run.prepare()
                if code == 0 and not run.cancelled:
                    run.stages(scripts)
                    return played
            if code == BUILD_FAILURE:
                played.status, played.reason, played.exit_code = "failed", "script_failure", 1
                return played
            if run.cancelled:
                played.status = "canceled"
                return played
            time.sleep(self.attempt_pause_seconds)
        played.status, played.reason = "failed", "runner_system_failure"
        return played


class Attempt:
    """One attempt: a temporary folder, config, prepare, the stages, cleanup."""

    def __init__(
        self,
        runner: Runner,
        job: dict[str, Any],
        custom: Mapping[str, str],
        played: Played,
        during: Hook | None,
    ) -> None:
        self.runner, self.played, self.during = runner, played, during
        self.folder = Path(tempfile.mkdtemp(prefix="custom-executor", dir=runner.temporary))
        self.job_env: dict[str, str] = {}
        self.cancelled = False
        self.context_over = False
        self.failed_stage = ""
        #: Whether the scripts have begun: only they can be cancelled gracefully.
        self.prepared = False
        (self.folder / "response.json").write_text(json.dumps(job))
        (self.folder / "response.json").chmod(0o600)
        if runner.machine.uid:
            os.chown(self.folder, runner.machine.uid, runner.machine.uid)
            os.chown(self.folder / "response.json", runner.machine.uid, runner.machine.uid)
        self.custom = {f"CUSTOM_ENV_{item['key']}": item["value"] for item in job["variables"]} | {
            f"CUSTOM_ENV_{key}": value for key, value in custom.items()
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.run("cleanup", "cleanup", [], to_log=False)
        shutil.rmtree(self.folder)

    def prepare(self) -> int:
        answer = self.folder / "config.out"
        with answer.open("wb") as out:
            code = self.run("config", "config", ["--settings", str(self.runner.settings)], stdout=out)
        if code != 0:
            return code
        self.played.config = json.loads(answer.read_bytes() or b"{}")
        self.job_env = self.played.config.get("job_env", {})
        return self.run("prepare", "prepare", ["--settings", str(self.runner.settings)])

    def stages(self, scripts: Mapping[str, Script]) -> None:
        """Run the stages in the runner's order, skipping those that its rules skip."""
        failed: tuple[int, str] | None = None
        self.prepared = True
        for stage, script in scripts.items():
            if self.context_over or (failed and not _runs_after_failure(stage, self.failed_stage)):
                continue
            if not failed and stage.endswith("_on_failure"):
                continue
            if failed and stage == "archive_cache":
                continue
            path = self.folder / f"script-{stage}" / "script"
            path.parent.mkdir()
            path.write_text(script)
            if self.runner.machine.uid:
                os.chown(path.parent, self.runner.machine.uid, self.runner.machine.uid)
                os.chown(path, self.runner.machine.uid, self.runner.machine.uid)
            code = self.run(stage, "run", [str(path), stage])
            if code != 0 and stage != "after_script" and failed is None:
                self.failed_stage = stage
                failed = self._failure(code)
        if self.cancelled:
            self.played.status = "canceled"
        elif failed:
            self.played.exit_code, self.played.reason = failed
            self.played.status = "failed"

    def _failure(self, code: int) -> tuple[int, str]:
        if code != BUILD_FAILURE:
            return 0, "runner_system_failure"
        path = self.folder / "build_exit_code"
        if not path.exists():
            return 1, "script_failure"
        text = path.read_text()
        return (int(text), "script_failure") if text.isdecimal() else (0, "runner_system_failure")

    def environment(self) -> dict[str, str]:
        """The environment of a stage, built up in the runner's order."""
        return (
            self.runner.machine.environment
            | self.runner.environment
            | {
                "TMPDIR": str(self.folder),
                "BUILD_FAILURE_EXIT_CODE": str(BUILD_FAILURE),
                "SYSTEM_FAILURE_EXIT_CODE": str(SYSTEM_FAILURE),
                "BUILD_EXIT_CODE_FILE": str(self.folder / "build_exit_code"),
                "JOB_RESPONSE_FILE": str(self.folder / "response.json"),
                "PYTHONPATH": self.runner.source,
            }
            | self.job_env
            | self.custom
        )

    def run(
        self, stage: str, command: str, arguments: Sequence[str], *, stdout: Any = None, to_log: bool = True
    ) -> int:
        """Run one stage to its end and return its exit code."""
        started = time.monotonic()
        log_path = self.folder / f"log-{stage}"
        with log_path.open("wb") as log:
            process = subprocess.Popen(
                self.runner.machine.as_user([*self.runner.python, command, *arguments]),
                stdin=subprocess.DEVNULL,
                stdout=stdout or log,
                stderr=log,
                env=self.environment(),
                cwd=self.folder,
                process_group=0,
            )
            disturber = None
            if self.during is not None:
                disturber = threading.Thread(target=self.during, args=(self, stage, process))
                disturber.start()
            # Not wait(timeout=...): that polls, and would be the slowest part of a benchmark.
            limit = threading.Timer(_STAGE_SECONDS_MAX, kill_group, (process, signal.SIGKILL))
            limit.start()
            code = process.wait()
            limit.cancel()
            if disturber:
                disturber.join()
        self.played.codes[stage] = code
        self.played.seconds[stage] = time.monotonic() - started
        if to_log:
            self.played.log += log_path.read_text(errors="replace")
        elif code != 0:
            self.played.log += f"cleanup failed: {log_path.read_text(errors='replace')}"
        return code

    def cancel(self, process: "subprocess.Popen[bytes]", *, gracefully: bool = True) -> None:
        """Do what the runner does when a person cancels, or (not gracefully) when the job's time is over."""
        self.cancelled = True
        self.context_over = not gracefully
        kill_group(process, signal.SIGTERM)
        try:
            process.wait(self.runner.graceful_kill_seconds)
        except subprocess.TimeoutExpired:
            kill_group(process, signal.SIGKILL)


def kill_group(process: "subprocess.Popen[bytes]", number: signal.Signals) -> None:
    """Signal a stage's process group."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


def _runs_after_failure(stage: str, failed_stage: str) -> bool:
    if stage.endswith("_on_failure") or stage == "cleanup_file_variables":
        return failed_stage != "prepare_script"
    return stage == "after_script" and failed_stage.startswith(("build_", "step_"))
