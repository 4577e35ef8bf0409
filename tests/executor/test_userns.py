"""`userns = "auto"`: each job has user ids of its own on this machine, and still shares its volumes."""

from pathlib import Path

import pytest

from executor.conftest import write_settings
from executor.emulator import Attempt, Played, Runner, bash, response, variable
from executor.machine import Machine


@pytest.fixture
def runner(machine: Machine, tmp_path: Path) -> Runner:
    for path in (Path("/etc/subuid"), Path("/etc/subgid")):
        if not path.exists() or "containers:" not in path.read_text():
            pytest.skip(f"{path} has no range of ids for `containers`; scripts/setup --dev adds one")
    return Runner(machine, write_settings(tmp_path / "e.toml", machine, 'userns = "auto"\n'))


_MAP = "echo mapped $(cat /proc/self/uid_map)"


def test_jobs_run_one_after_another_as_users_of_their_own_and_keep_their_cache(runner: Runner) -> None:
    service = {
        "name": "localhost/shell",
        "alias": "db",
        "entrypoint": [""],
        "command": ["sh", "-c", "while :; do echo served | nc -l -p 4000; done"],
        "variables": [variable("HEALTHCHECK_TCP_PORT", "4000")],
    }
    for number in (1, 2):
        played = runner.play(
            response(id=number, services=[service]),
            {
                "get_sources": bash(f"{_MAP}; id -u; echo source {number} > file"),
                "build_script": bash(
                    f"{_MAP}; cat file; touch more; echo {number} >> /cache/jobs; nc db 4000 </dev/null"
                ),
                "archive_cache": bash("cat /cache/jobs"),
            },
        )
        assert played.status == "success", played.log
        maps = {line.split()[2] for line in played.log.splitlines() if line.startswith("mapped ")}
        assert len(maps) == 1
        assert int(maps.pop()) > 0
        assert f"source {number}\n" in played.log
        assert "served\n" in played.log
    assert "1\n2\n" in played.log
    assert runner.machine.listing("ps", "--all") == []


def test_two_jobs_of_a_project_at_once_do_not_take_each_others_volumes(runner: Runner) -> None:
    others: list[Played] = []

    def play_another(_: Attempt, stage: str, __: object) -> None:
        if stage == "get_sources":
            others.append(runner.play(response(id=2), {"build_script": bash("touch /cache/second file")}))

    first = runner.play(
        response(id=1),
        {
            # Long enough for the other job to begin; what the first one writes then is still its own.
            "get_sources": bash("sleep 1"),
            "build_script": bash("touch /cache/first file && ls /cache"),
        },
        during=play_another,
    )
    assert [first.status, *(other.status for other in others)] == ["success", "success"], first.log
    assert "second" not in first.log


def test_without_a_helper_image_it_says_what_it_needs(runner: Runner) -> None:
    text = runner.settings.read_text()
    runner.settings.write_text(text.replace('helper_image = "localhost/shell"\n', ""))
    played = runner.play(response(), {"build_script": bash("true")})
    assert played.reason == "runner_system_failure"
    assert 'userns = "auto" needs a helper_image' in played.log
