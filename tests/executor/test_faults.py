"""Random faults at random moments: every job ends in the right class, and `gc` leaves nothing behind.

Each seed is one job and can be replayed: `EXECUTOR_FAULT_SEEDS=17 pytest tests/executor/test_faults.py`; a
range such as `0:500` runs many.
"""

import contextlib
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from executor.conftest import write_settings
from executor.emulator import Attempt, Played, Runner, bash, response, variable
from executor.machine import Machine

_SECRET = "f4ult-s3cret"
_SEEDS = os.environ.get("EXECUTOR_FAULT_SEEDS", "0:9")
_FAULTS = (
    "none",
    "kill driver",
    "kill conmon",
    "kill container",
    "cancel",
    "time-out",
    "no image",
    "no registry",
    "disk full",
)
#: These are there from the start; the others happen at a moment.
_STANDING = {"none", "no image", "no registry", "disk full"}
_STAGES = ("config", "prepare", "get_sources", "build_script", "after_script", "cleanup")


def _seeds() -> range:
    first, _, end = _SEEDS.partition(":")
    return range(int(first), int(end or int(first) + 1))


class _Fault:
    """One fault, chosen by a seed; `hit` tells whether it happened while its stage ran."""

    def __init__(self, seed: int, machine: Machine) -> None:
        chosen = random.Random(seed)  # noqa: S311
        self.kind = _FAULTS[seed % len(_FAULTS)]
        self.stage = chosen.choice(_STAGES)
        self.after_seconds = chosen.uniform(0, 0.6)
        self.hit = False
        self._machine = machine
        self._done = threading.Event()

    def __call__(self, attempt: Attempt, stage: str, process: "subprocess.Popen[bytes]") -> None:
        stage_wanted = "build_script" if self.kind in {"kill conmon", "kill container"} else self.stage
        if stage != stage_wanted or self._done.is_set() or self.kind in _STANDING:
            return
        self._done.set()
        time.sleep(self.after_seconds)
        if process.returncode is not None or not Path(f"/proc/{process.pid}").exists():
            return
        self.hit = True
        if self.kind == "kill driver":
            os.kill(process.pid, signal.SIGKILL)
        elif self.kind in {"cancel", "time-out"} and stage != "cleanup":
            attempt.cancel(process, gracefully=self.kind == "cancel" and attempt.prepared)
        elif self.kind == "kill conmon":
            self._kill("{{.State.ConmonPid}}")
        elif self.kind == "kill container":
            self._kill("{{.State.Pid}}")

    def _kill(self, field: str) -> None:
        names = [
            name for name in self._machine.podman("ps", "--format={{.Names}}").split() if "-build" in name
        ]
        for name in names:
            pid = int(self._machine.podman("inspect", f"--format={field}", name, check=False) or 0)
            if pid > 1:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def judge(self, played: Played) -> bool:
        """Tell whether a job with this fault ended in the right class."""
        ended = (played.status, played.reason)
        system = ("failed", "runner_system_failure")
        if self.kind == "no image":
            return ended == ("failed", "script_failure") and played.attempts == 1
        if self.kind in {"no registry", "disk full"}:
            return ended == system
        if not self.hit or self.kind == "none" or self.stage == "cleanup":
            return ended == ("success", "") or self.kind.startswith("kill c")
        if self.kind == "kill driver":
            retried = self.stage in {"config", "prepare"} and played.attempts == 2
            passed = played.codes[self.stage] != -9 or self.stage == "after_script"
            return ended == (("success", "") if retried or passed else system)
        if self.kind in {"cancel", "time-out"}:
            return played.status == "canceled"
        # Its container may have outlived the blow long enough for the script to end well.
        return ended in {("success", ""), system}


@pytest.fixture(scope="module")
def full_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("full")
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k", "none", str(folder)], check=True)
    with contextlib.suppress(OSError), (folder / "filler").open("wb") as file:
        file.write(b"x" * 65536)
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def _play(seed: int, machine: Machine, folder: Path, full_disk: Path) -> tuple[_Fault, Played]:
    fault = _Fault(seed, machine)
    settings = write_settings(folder / f"{seed}.toml", machine)
    if fault.kind == "disk full":
        settings.write_text(settings.read_text().replace(f"{machine.folder}/state", str(full_disk / "state")))
    images = {"no image": "localhost/missing", "no registry": "127.0.0.1:1/image"}
    image = images.get(fault.kind, "localhost/shell")
    script = bash("sleep 0.5; echo done", variables={"SECRET": _SECRET})
    played = Runner(machine, settings).play(
        response(id=seed + 1, image={"name": image}, variables=[variable("SECRET", _SECRET, public=False)]),
        {"get_sources": script, "build_script": script, "after_script": bash("echo after")},
        during=fault,
    )
    return fault, played


def test_every_job_ends_in_the_right_class_and_nothing_is_left(
    machine: Machine, tmp_path: Path, full_disk: Path
) -> None:
    wrong = []
    for seed in _seeds():
        fault, played = _play(seed, machine, tmp_path, full_disk)
        if not fault.judge(played):
            wrong.append(
                f"seed {seed}: {fault.kind} in {fault.stage} after {fault.after_seconds:.2f} s ({fault.hit});"
                f" {played.status} {played.reason} {played.codes}\n{played.log}"
            )
    assert not wrong, "\n".join(wrong)
    runner = Runner(machine, write_settings(tmp_path / "gc.toml", machine))
    time.sleep(1)  # podman calls that a killed driver had begun
    said = runner.collect_garbage()
    assert machine.listing("ps", "--all") == [], said
    assert [str(item["name"]) for item in machine.listing("network", "ls")] == ["podman"], said
    assert not list((machine.folder / "state/jobs").glob("*"))
    assert "-passing" not in machine.podman("volume", "ls", "--quiet")
    assert _processes_of(machine) == []
    assert _files_with_secret(machine) == []


def _processes_of(machine: Machine) -> list[str]:
    found = []
    for process in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            command = (process / "cmdline").read_bytes() if process.name.isdecimal() else b""
            if b"imagechain-" in command and str(machine.folder).encode() in command:
                found.append(command.replace(b"\0", b" ").decode(errors="replace"))
    return found


def _files_with_secret(machine: Machine) -> list[Path]:
    files = (path for path in machine.folder.rglob("*") if path.is_file() and not path.is_symlink())
    return [path for path in files if _SECRET.encode() in path.read_bytes()]
