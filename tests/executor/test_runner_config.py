"""The runner's own `config.toml` is edited so that nothing else of it changes, or not at all."""

import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagechain.executor import install
from imagechain.executor.errors import SystemFailureError
from imagechain.executor.runner_config import RefusedError, edit

_RUNNER = {"executor": "custom", "builds_dir": "/builds", "cache_dir": "/cache"}
_CUSTOM = {"run_exec": "/usr/bin/imagechain-executor", "run_args": ["run"], "graceful_kill_timeout": 60}
_REGISTERED = """\
concurrent = 4 # of all runners
check_interval = 0

[session_server]
  session_timeout = 1800

# The old one, with docker.
[[runners]]
  name = "docker"
  token = "glrt-docker"
  executor = "docker"
  [runners.docker]
    image = "alpine"

[[runners]]
  name = "podman"   # ours
  url = "https://gitlab.example.com"
  id = 7
  token = "glrt-podman"
  token_obtained_at = 2026-11-21T07:00:00Z
  executor = "custom"
  builds_dir = "/old"  # will change
  [runners.custom_build_dir]
    enabled = true
  [runners.cache]
    MaxUploadedArchiveSize = 0
    [runners.cache.s3]
      BucketName = "[[runners]]"
  [runners.custom]
    run_exec = ""

[[runners]]
  name = "shell"
  executor = "shell"
"""


def _edit(text: str, name: str = "") -> str:
    return edit(text, name, _RUNNER, _CUSTOM)


def test_the_runner_of_this_executor_is_changed_and_every_other_line_stays() -> None:
    edited = _edit(_REGISTERED)
    before, after = _REGISTERED.splitlines(), edited.splitlines()
    assert [line for line in before if line not in after] == [
        '  builds_dir = "/old"  # will change',
        '    run_exec = ""',
    ]
    assert [line for line in after if line not in before] == [
        '  builds_dir = "/builds"  # will change',
        '  cache_dir = "/cache"',
        '    run_exec = "/usr/bin/imagechain-executor"',
        '    run_args = ["run"]',
        "    graceful_kill_timeout = 60",
    ]
    assert _edit(edited) == edited
    podman = tomllib.loads(edited)["runners"][1]
    assert podman["custom"] == _CUSTOM


def test_a_table_that_is_missing_is_added_at_the_end_of_its_runner() -> None:
    text = (
        '[[runners]]\nname = "a"\nexecutor = "custom"\n[runners.cache]\n  Type = "s3"\n\n# end\n[metrics]\n'
    )
    edited = _edit(text)
    assert tomllib.loads(edited)["runners"][0]["custom"] == _CUSTOM
    assert edited.endswith("graceful_kill_timeout = 60\n[metrics]\n")


_SECOND = _REGISTERED.replace('executor = "shell"', 'executor = "custom"')


@pytest.mark.parametrize(
    ("text", "name", "said"),
    [
        ("= 1", "", "is not TOML"),
        ("concurrent = 1\n", "", "no [[runners]]"),
        ('[[runners]]\nname = "x"\nexecutor = "shell"\n', "", "0 of its runners have the executor custom"),
        (
            _SECOND,
            "",
            "2 of its runners have the executor custom; choose one with --runner: 'docker', 'podman'",
        ),
        (_REGISTERED, "other", "0 of its runners are called 'other'"),
        (_REGISTERED, "docker", "is one of the executor 'docker'"),
        (
            _REGISTERED.replace('run_exec = ""', 'run_exec = "/opt/vm"'),
            "",
            "another custom executor: /opt/vm",
        ),
        ('runners = [{name = "x", executor = "custom"}]\n', "", "not all written as [[runners]]"),
        ('[[runners]]\nexecutor = "custom"\ncustom = {run_exec = ""}\n', "", "cannot be changed safely"),
        ('[[runners]]\nexecutor = "custom"\ncustom.run_exec = ""\n', "", "cannot be changed safely"),
        (
            '[[runners]]\nexecutor = "custom"\n[runners.custom]\nrun_args = [\n  "a",\n]\n',
            "",
            "cannot be changed safely",
        ),
        (
            '[[runners]]\nexecutor = "custom"\nshell = """\n[[runners]]\n"""\n',
            "",
            "not all written as [[runners]]",
        ),
    ],
)
def test_what_cannot_be_edited_safely_is_refused_with_the_reason(text: str, name: str, said: str) -> None:
    with pytest.raises(RefusedError) as caught:
        _edit(text, name)
    assert said in str(caught.value)


_LINES = st.lists(
    st.sampled_from(
        [
            "", "# note", 'name = "a"', 'executor = "custom"', "  builds_dir = '/x' # why", "[[runners]]",
            "[runners.custom]", "  [runners.cache]", "[metrics]", 'run_exec = "imagechain-executor"',
            'config_args = ["x"]', 'text = """', '"""', "limit = 3", "[[runners.docker.services]]",
        ]
    ),
    max_size=14,
)  # fmt: skip


@given(lines=_LINES)
def test_any_file_is_refused_or_changed_in_our_keys_only(lines: list[str]) -> None:
    text = "\n".join(['[[runners]]\nexecutor = "custom"', *lines, ""])
    try:
        edited = _edit(text)
    except RefusedError:
        return
    wanted: dict[str, Any] = tomllib.loads(text)
    entry = next(entry for entry in wanted["runners"] if entry.get("executor") == "custom")
    entry |= _RUNNER | {"custom": {**entry.get("custom", {}), **_CUSTOM}}
    assert tomllib.loads(edited) == wanted
    kept = iter(edited.splitlines())
    ours = (*_RUNNER, *_CUSTOM)
    assert all(line in kept for line in text.splitlines() if line and not line.strip().startswith(ours))


def test_install_writes_it_once_keeps_a_copy_and_shows_no_token(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "etc/gitlab-runner/config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(_REGISTERED)
    config.chmod(0o600)
    arguments = ["--root", str(tmp_path), "--program", "/usr/bin/imagechain-executor"]
    assert install.main([*arguments, "--dry-run"]) == 0
    shown = capsys.readouterr()
    assert '+    config_args = ["config", "--settings", "/etc/imagechain/executor.toml"]' in shown.out
    assert "glrt-" not in shown.out + shown.err
    assert config.read_text() == _REGISTERED
    assert install.main(arguments) == 0
    edited = config.read_text()
    custom = tomllib.loads(edited)["runners"][1]["custom"]
    assert custom["prepare_exec"] == custom["cleanup_exec"] == "/usr/bin/imagechain-executor"
    backup = config.with_name("config.toml.before-imagechain")
    assert backup.read_text() == _REGISTERED
    assert {path.stat().st_mode & 0o777 for path in (config, backup)} == {0o600}
    capsys.readouterr()
    assert install.main(arguments) == 0
    assert f"kept {config}" in capsys.readouterr().err
    assert config.read_text() == edited
    assert backup.read_text() == _REGISTERED
    names = {path.name for path in config.parent.iterdir()}
    assert names == {config.name, backup.name, "imagechain-executor.template.toml"}


def test_install_prints_what_to_write_by_hand_where_it_must_not(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "etc/gitlab-runner/config.toml"
    config.parent.mkdir(parents=True)
    config.write_text(_SECOND)
    assert install.main(["--root", str(tmp_path), "--program", "/x"]) == 1
    shown = capsys.readouterr()
    assert "choose one with --runner" in shown.err
    assert "  [runners.custom]\n" in shown.out
    assert config.read_text() == _SECOND
    assert install.main(["--root", str(tmp_path), "--program", "/x", "--runner", "podman"]) == 0


def test_install_for_a_config_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    (tmp_path / "etc/gitlab-runner/config.toml").mkdir(parents=True)
    with pytest.raises(SystemFailureError, match=r"cannot read .*config\.toml"):
        install.main(["--root", str(tmp_path)])


def test_install_says_if_the_runners_user_may_not_run_the_executor(tmp_path: Path) -> None:
    program = tmp_path / "imagechain-executor"
    program.write_text("#!/bin/sh\n")
    plan = install.Plan(str(program), "/e.toml", "", 0, "")
    with pytest.raises(SystemFailureError, match=r"root may not run .*; install imagechain where every user"):
        install._run_doctor(plan, "/config.toml")


def test_install_shows_what_the_doctor_finds(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    program = tmp_path / "imagechain-executor"
    program.write_text('#!/bin/sh\necho "doctor: $*"\nexit 1\n')
    program.chmod(0o755)
    install._run_doctor(install.Plan(str(program), "/e.toml", "", 0, ""), "/config.toml")
    assert capfd.readouterr().out == "doctor: doctor --settings=/e.toml --runner-config=/config.toml\n"
