"""Without a helper image: git and the runner of this machine, and nothing else of it."""

import shutil
from pathlib import Path

import pytest

from executor.conftest import write_settings
from executor.emulator import Runner, bash, response
from executor.machine import Machine
from imagechain.executor import host_helper
from imagechain.executor.errors import SystemFailureError

_COMMIT = "git -c user.name=me -c user.email=me@example.org commit --quiet --allow-empty --message=first"


@pytest.fixture
def runner(machine: Machine, tmp_path: Path) -> Runner:
    if lacking := host_helper.missing():
        pytest.skip(f"this machine cannot be its own helper for want of {lacking}")
    binary = tmp_path / "gitlab-runner-19"
    binary.write_text('#!/bin/sh\necho "the runner: $*"\n')
    binary.chmod(0o755)
    settings = write_settings(tmp_path / "e.toml", machine)
    text = settings.read_text().replace('helper_image = "localhost/shell"\nrunner_binary = ""\n', "")
    settings.write_text(f'runner_binary = "{binary}"\n{text}')
    return Runner(machine, settings)


def test_git_and_caches_work_with_the_programs_of_this_machine(runner: Runner) -> None:
    played = runner.play(
        response(),
        {
            "prepare_script": bash("hostname"),
            "get_sources": bash(
                f"git init --quiet . && git config --global a.b c && {_COMMIT}; echo source > file"
            ),
            "restore_cache": bash("gitlab-runner cache-extractor --file x; touch /cache/mine"),
            "build_script": bash("cat file .git/HEAD; ls /cache; echo more >> file"),
            "archive_cache": bash("cat file"),
        },
    )
    assert played.status == "success", played.log
    assert "the runner: cache-extractor --file x\n" in played.log
    assert "source\nref: refs/heads/" in played.log
    assert "mine\n" in played.log
    assert "source\nmore\n" in played.log
    assert runner.machine.listing("ps", "--all") == []


def test_nothing_of_this_machine_can_be_changed_and_little_of_it_read(runner: Runner) -> None:
    script = (
        "for path in /usr /etc / /usr/local/bin; do touch $path/file 2> /dev/null && echo changed $path;"
        " done; for path in /etc/shadow /etc/ssh /home /var/lib; do test -e $path && echo seen $path; done;"
        " cat /etc/passwd; touch /tmp/file /root/file; echo fine"
    )
    played = runner.play(response(), {"get_sources": bash(script)})
    assert played.status == "success", played.log
    assert "changed" not in played.log
    assert "seen" not in played.log
    assert "root:x:0:0:root:/root:/bin/sh\nfine\n" in played.log


def test_the_skeleton_may_be_made_by_several_jobs_and_again(tmp_path: Path) -> None:
    for _ in range(2):
        host_helper.make_root(str(tmp_path / "root"))
    assert (tmp_path / "root/bin").readlink() == Path("usr/bin")
    assert list((tmp_path / "root/usr").iterdir()) == []


def test_a_machine_without_git_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_helper, "_PROGRAMS", (str(tmp_path / "git"), shutil.which("sh") or "sh"))
    with pytest.raises(SystemFailureError, match=r"for want of .*/git; install it, or set helper_image"):
        host_helper.make_root(str(tmp_path / "root"))
