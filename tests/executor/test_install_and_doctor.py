"""What `install` writes is what systemd and the runner take; `doctor` says how to mend what is missing."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

from executor.machine import Machine
from imagechain.executor import doctor, settings
from imagechain.executor.install import TEMPLATE, Plan

_PACKAGING = Path(__file__).parents[2] / "packaging/executor"
_SOURCE = str(Path(__file__).parents[2] / "src")
_PLAN = Plan("/usr/bin/imagechain-executor", "/etc/imagechain/executor.toml", "", 0, "")


def _run(*arguments: str, environment: Mapping[str, str] = os.environ) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "imagechain.executor.main", *arguments],
        env={**environment, "PYTHONPATH": _SOURCE},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_the_packaged_files_are_those_that_install_writes() -> None:
    for path, text in _PLAN.files().items():
        below = path.removeprefix("/etc/systemd/system/").removeprefix("/etc/gitlab-runner/")
        packaged = _PACKAGING / below.removeprefix("/etc/imagechain/")
        assert packaged.read_text() == text, (
            f"write {packaged} again with `imagechain-executor install --root`"
        )


def test_install_writes_below_its_root_and_keeps_settings_that_exist(tmp_path: Path) -> None:
    done = _run("install", "--root", str(tmp_path), "--program", "/x/imagechain-executor")
    assert done.returncode == 0, done.stderr
    written = tmp_path / "etc/imagechain/executor.toml"
    assert settings.load(str(written)).base.pull_policy == ("always", "if-not-present")
    template = tomllib.loads((tmp_path / TEMPLATE.lstrip("/")).read_text())["runners"][0]
    assert template["executor"] == "custom"
    assert template["custom"]["run_exec"] == "/x/imagechain-executor"
    assert 0 < template["custom"]["graceful_kill_timeout"] < 300
    written.write_text("# mine\n")
    assert "kept" in _run("install", "--root", str(tmp_path)).stderr
    assert written.read_text() == "# mine\n"


def test_install_for_a_user_who_is_missing_says_how_to_make_one(tmp_path: Path) -> None:
    done = _run("install", "--root", str(tmp_path), "--user", "no-such-user")
    assert done.returncode == 2
    assert "useradd" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_users_units_name_the_user_and_a_lasting_runtime_folder() -> None:
    texts = _PLAN._replace(user="gitlab-runner", uid=999).files().items()
    units = {Path(path).name: text for path, text in texts}
    for name in ("imagechain-executor.conf", "imagechain-executor-gc.service"):
        assert "User=gitlab-runner\nEnvironment=XDG_RUNTIME_DIR=/run/user/999\n" in units[name]


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is missing")
    plan = _PLAN._replace(program="/bin/true")
    units = {
        path.rpartition("/system/")[2]: text for path, text in plan.files().items() if "/system/" in path
    }
    runner = "[Unit]\nDescription=GitLab Runner\n[Service]\nExecStart=/bin/true\n"
    for name, text in {**units, "gitlab-runner.service": runner}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    names = ["imagechain-executor-gc.service", "imagechain-executor-gc.timer", "gitlab-runner.service"]
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *(str(tmp_path / name) for name in names)],
        capture_output=True,
        text=True,
        check=False,
    )
    ours = [line for line in done.stderr.splitlines() if "imagechain" in line or "gitlab-runner" in line]
    assert ours == []
    for name in names[:1]:
        done = subprocess.run(
            ["systemd-analyze", "security", "--offline=yes", "--no-pager", str(tmp_path / name)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert "Overall exposure level" in done.stdout, done.stderr


def _levels(findings: list[doctor.Finding], about: str) -> list[str]:
    return [finding.level for finding in findings if finding.about == about]


def test_doctor_finds_what_is_missing_and_says_how_to_mend_it(machine: Machine, tmp_path: Path) -> None:
    path = tmp_path / "e.toml"
    path.write_text(
        'helper_image = "localhost/missing"\nrunner_binary = "/missing"\n'
        'userns = "keep-id"\nprivileged = true\n'
        f'state_dir = "{tmp_path}/state"\n'
    )
    done = _run(
        "doctor", "--settings", str(path), "--format=json", "--runner-config", "/missing",
        environment=machine.environment,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    findings = [doctor.Finding(**item) for item in json.loads(done.stdout)]
    assert _levels(findings, "podman") == ["ok"]
    assert _levels(findings, "settings") == ["ok"]
    assert _levels(findings, "helper_image") == ["error"]
    assert _levels(findings, "runner_binary") == ["error"]
    assert "error" in _levels(findings, "userns")
    assert _levels(findings, "privileged") == ["warning"]
    assert _levels(findings, "runner") == ["warning"]
    text = _run("doctor", "--settings", str(path), environment=machine.environment)
    assert text.stdout.splitlines()[0] == f"ok      settings: {path}"


def test_doctor_without_podman_or_settings_still_answers(tmp_path: Path) -> None:
    done = _run("doctor", "--settings", "/missing", environment={"PATH": str(tmp_path), "HOME": "/"})
    assert done.returncode == 1
    assert "error   settings:" in done.stdout
    assert "error   podman: podman is not installed" in done.stdout


@pytest.mark.parametrize(
    ("info", "about", "level"),
    [
        ({"version": {"Version": "3.4.4"}}, "podman", "error"),
        ({"version": {"Version": "5.2.0"}}, "podman", "ok"),
        ({"version": {"Version": "5.2.0"}, "store": {"graphDriverName": "vfs"}}, "storage", "warning"),
    ],
)
def test_doctor_judges_podman(info: dict[str, object], about: str, level: str) -> None:
    assert _levels(list(doctor._podman(info)), about) == [level]


def test_doctor_misses_ranges_of_user_ids_and_limits_without_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    findings = list(doctor._rootless({"host": {"cgroupVersion": "v1"}}))
    assert _levels(findings, "user ids") == ["error", "error"]
    assert "usermod --add-subuids" in findings[0].text
    assert _levels(findings, "limits") == ["warning"]


@pytest.mark.parametrize(
    ("text", "levels", "said"),
    [
        ("", ["warning"], "no runner in"),
        ("= 1", ["warning"], "cannot read"),
        (
            '[[runners]]\nexecutor = "custom"\n[runners.custom]\nrun_exec = "/usr/bin/imagechain-executor"\n',
            ["error", "warning"],
            "lacks config_exec, prepare_exec, cleanup_exec",
        ),
        (_PLAN.files()[TEMPLATE], [], ""),
    ],
)
def test_doctor_reads_the_runners_configuration(
    tmp_path: Path, text: str, levels: list[str], said: str
) -> None:
    path = tmp_path / "config.toml"
    path.write_text(text)
    findings = list(doctor._runner(str(path)))
    assert [finding.level for finding in findings] == levels
    assert said in "".join(finding.text for finding in findings)


@pytest.mark.parametrize("arguments", [[], ["--help"], ["nonsense"], ["run", "--settings"]])
def test_wrong_usage_is_told(arguments: list[str]) -> None:
    done = _run(*arguments)
    assert done.returncode == (0 if arguments == ["--help"] else 2)
    assert done.stdout + done.stderr
