"""`gc`: what dead jobs left is removed, what is old or too much too, and nothing of anybody else."""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from executor.conftest import write_settings
from executor.emulator import Attempt, Runner, bash, response
from executor.machine import Machine
from imagechain.executor import gc as garbage


class _RunnerKilledError(Exception):
    """The runner is gone: nothing that it would do next happens."""


def _lose_runner(runner: Runner, monkeypatch: pytest.MonkeyPatch) -> None:
    """Play a job up to its script, as a runner that then loses its power: no cleanup is ever called."""
    real = Attempt.run

    def run(self: Attempt, stage: str, command: str, *arguments: object, **options: object) -> int:
        if command == "cleanup":
            raise _RunnerKilledError
        return real(self, stage, command, *arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Attempt, "run", run)
    with pytest.raises(_RunnerKilledError):
        runner.play(response(id=99), {"build_script": bash("true")})
    monkeypatch.undo()


def test_a_job_of_a_living_runner_is_left_alone_until_its_deadline(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    _lose_runner(runner, monkeypatch)
    machine = runner.machine
    assert len(machine.listing("ps")) == 2
    # The tests' own process is the runner, and it lives.
    assert "removed job" not in runner.collect_garbage()
    assert len(machine.listing("ps")) == 2
    state = next((machine.folder / "state/jobs").glob("99-*")) / "job.json"
    text = state.read_text()
    state.write_text(_with(text, "deadline", 1.0))
    assert "would remove job 99-" in runner.collect_garbage("--dry-run")
    assert len(machine.listing("ps")) == 2
    assert "removed job 99-" in runner.collect_garbage()
    assert machine.listing("ps", "--all") == []
    assert not state.parent.exists()


def _with(text: str, key: str, value: object) -> str:
    return json.dumps(json.loads(text) | {key: value})


def test_a_job_of_a_dead_runner_is_removed_and_so_is_what_no_job_knows(
    runner: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    _lose_runner(runner, monkeypatch)
    machine = runner.machine
    machine.podman("run", "--detach", "--name=foreign", "localhost/shell", "sleep", "99")
    machine.podman("network", "create", "foreign")
    machine.podman("volume", "create", "foreign")
    state = next((machine.folder / "state/jobs").glob("99-*")) / "job.json"
    state.write_text(_with(state.read_text(), "runner", [2**22 - 1, 1]))
    runner.collect_garbage()
    assert [str(item["Names"]) for item in machine.listing("ps", "--all")] == ["['foreign']"]
    # Now without the job's own file.
    _lose_runner(runner, monkeypatch)
    subprocess.run(["rm", "-r", str(state.parent)], check=True)
    said = runner.collect_garbage()
    assert "removed container imagechain-99-" in said
    assert "removed network imagechain-99-" in said
    assert [str(item["Names"]) for item in machine.listing("ps", "--all")] == ["['foreign']"]
    assert {str(item["name"]) for item in machine.listing("network", "ls")} == {"podman", "foreign"}
    assert "foreign" in machine.podman("volume", "ls", "--quiet").split()
    machine.podman("rm", "--force", "--time=0", "foreign")
    machine.podman("network", "rm", "foreign")
    machine.podman("volume", "rm", "foreign")


def test_caches_age_out_by_last_use_and_the_oldest_go_first_when_there_is_too_much(
    machine: Machine, tmp_path: Path
) -> None:
    settings = write_settings(tmp_path / "e.toml", machine, '[cache]\nsize_max = "6MiB"\nage_max = "1d"\n')
    runner = Runner(machine, settings)
    # Images that jobs of other tests pulled, and their volumes, count for the size, too.
    machine.podman("volume", "prune", "--force")
    for entry in (machine.folder / "state/images").glob("*"):
        entry.unlink()
    fill = {"archive_cache": bash("head -c 3000000 /dev/zero > /cache/file")}
    for project in (501, 502, 503, 504):
        info = response()["job_info"] | {"project_id": project}
        assert runner.play(response(id=project, job_info=info), fill).status == "success"
    index = machine.folder / "state/volumes"
    now = time.time()
    for project, age_seconds in ((501, 200_000), (502, 3000), (503, 2000), (504, 1000)):
        for path in index.glob(f"*-{project}-*"):
            os.utime(path, (now - age_seconds, now - age_seconds))
    said = runner.collect_garbage()
    left = machine.podman("volume", "ls", "--quiet")
    assert "-501-" not in left
    assert "-502-cache" not in left
    assert "-503-cache" in left
    assert "-504-cache" in left
    assert "last used 2.3 days ago" in said
    assert not list(index.glob("*-501-*"))


def test_an_image_that_a_job_pulled_ages_out_and_one_of_somebody_else_does_not(
    machine: Machine, tmp_path: Path
) -> None:
    runner = Runner(machine, write_settings(tmp_path / "e.toml", machine, '[cache]\nage_max = "1d"\n'))
    for name in ("localhost/pulled", "localhost/foreign-image"):
        machine.make_image(name, files={"name": name})
    image_id = machine.podman("image", "inspect", "--format={{.Id}}", "localhost/pulled").strip()
    index = machine.folder / "state/images"
    index.mkdir(exist_ok=True)
    (index / image_id).write_text("localhost/pulled")
    os.utime(index / image_id, (1, 1))
    assert f"removed image {image_id}" in runner.collect_garbage()
    left = machine.podman("images", "--format={{.Repository}}")
    assert "localhost/pulled" not in left
    assert "localhost/foreign-image" in left


def test_links_out_of_a_cache_are_removed_and_never_followed(tmp_path: Path) -> None:
    outside = tmp_path / "etc"
    outside.mkdir()
    (outside / "passwd").write_text("root")
    root = tmp_path / "cache"
    (root / "deep/deeper").mkdir(parents=True)
    for number in range(50):
        (root / f"link{number}").symlink_to(outside)
        (root / f"deep/deeper/link{number}").symlink_to(outside / "passwd")
    (root / "loop").symlink_to(root)
    (root / "old").write_text("x")
    assert garbage.size_bytes(root) < 1 << 20
    removed = garbage.remove_older(root, time.time() + 60)
    assert removed >= 51
    assert not (root / "old").exists()
    assert not list(root.rglob("link*"))
    assert (outside / "passwd").read_text() == "root"


def test_a_job_cannot_make_its_files_look_new_or_a_young_one_old(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("x")
    os.utime(path, (1, 1))  # the inode itself was changed just now
    assert garbage.remove_older(tmp_path, time.time() - 3600) == 0
    os.utime(path, (1, 2**33))
    assert garbage.remove_older(tmp_path, time.time() + 3600) == 1


def test_what_a_killed_prepare_left_is_taken_over_by_the_next_attempt(runner: Runner) -> None:
    kills = iter([0.15])

    def kill(attempt: Attempt, stage: str, process: "subprocess.Popen[bytes]") -> None:
        if stage == "prepare" and (after := next(kills, None)):
            time.sleep(after)
            os.kill(process.pid, signal.SIGKILL)

    played = runner.play(response(), {"build_script": bash("echo done")}, during=kill)
    assert (played.status, played.attempts) == ("success", 2), played.log
    runner.collect_garbage()
    assert runner.machine.listing("ps", "--all") == []
