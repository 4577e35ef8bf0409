"""The command line as a person meets it: what it prints, where, and with which exit code."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from imagechain.cli.main import run


@pytest.fixture
def chain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    top = tmp_path / "chain"
    for name, text in {
        "base": "FROM docker.io/library/debian:12\n",
        "app": "FROM localhost/base\nCOPY --from=ghcr.io/x/y:1 /a /a\n",
    }.items():
        (top / name).mkdir(parents=True)
        (top / name / "Containerfile").write_text(text)
    return top


def test_scan_prints_the_graph_in_the_shape_that_programs_rely_on(
    chain: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (chain / "broken").mkdir()
    (chain / "broken" / "Containerfile").write_text("FROM a b\n")
    assert run(["scan", str(chain), "--format", "json"]) == 0
    listing = json.loads(capsys.readouterr().out)
    assert list(listing) == ["sources", "dependencies", "cycles", "problems"]
    assert [
        (source["id"], source["kind"], source["images"], source["file"]) for source in listing["sources"]
    ] == [
        ("app", "project", ["localhost/app:latest"], "app/Containerfile"),
        ("base", "project", ["localhost/base:latest"], "base/Containerfile"),
        ("broken", "project", ["localhost/broken:latest"], "broken/Containerfile"),
        ("docker.io/library/debian:12", "external", ["docker.io/library/debian:12"], None),
        ("ghcr.io/x/y:1", "external", ["ghcr.io/x/y:1"], None),
    ]
    assert {
        "child": "app",
        "parent": "base",
        "kind": "from",
        "file": "app/Containerfile",
        "line": 1,
        "image": "localhost/base:latest",
        "needed": True,
    } in listing["dependencies"]
    assert len(listing["dependencies"]) == 3
    assert listing["cycles"] == []
    (problem,) = listing["problems"]
    assert (problem["file"], problem["line"]) == ("broken/Containerfile", 1)
    assert "FROM requires either one or three arguments" in problem["message"]


def test_scan_succeeds_with_problems_unless_it_is_strict(
    chain: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["scan", str(chain), "--strict"]) == 0
    (chain / "base" / "Containerfile").write_text("FROM a b\n")
    assert run(["scan", str(chain)]) == 0
    assert "base/Containerfile:1: " in capsys.readouterr().err
    assert run(["scan", str(chain), "--strict"]) == 1


def test_a_cycle_is_told_with_its_path_and_its_lines(chain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (chain / "base" / "Containerfile").write_text("# below is a slip\nFROM localhost/app\n")
    assert run(["scan", str(chain), "--format", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["cycles"] in ([["app", "base"]], [["base", "app"]])
    assert run(["scan", str(chain), "--strict"]) == 1
    told = capsys.readouterr().err
    assert "base/Containerfile:2: base needs app" in told
    assert "app/Containerfile:1: app needs base" in told


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["scan", "{chain}/nothing"], "does not exist"),
        (["scan", "{chain}", "--platform", "toaster"], "--platform: unknown platform 'toaster'"),
        (["scan", "{chain}", "--build-arg", "X"], "--build-arg X: write it as NAME=VALUE"),
        (["scan", "{chain}", "--format", "yaml"], "yaml"),
        (["scan", "{chain}", "--colour"], "--colour"),
        (["up", "{chain}", "--jobs", "0"], "--jobs"),
        (["skan"], "scan"),
    ],
)
def test_wrong_usage_is_told_and_leaves_with_2(
    arguments: list[str], says: str, chain: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([argument.format(chain=chain) for argument in arguments]) == 2
    captured = capsys.readouterr()
    assert says in " ".join(captured.err.split()) + " ".join(captured.out.split())
    assert "Traceback" not in captured.err


def test_a_wrong_setting_names_the_nearest_one(chain: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (chain / "imagechain.toml").write_text('[chain]\nprefx = "registry.example.com"\n')
    assert run(["scan", str(chain)]) == 2
    told = capsys.readouterr().err
    assert "imagechain.toml" in told
    assert "prefx" in told
    assert "prefix" in told


def test_without_a_builder_the_package_is_named(
    chain: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(chain))
    for arguments in (["up", str(chain)], ["status", "--dir", str(chain)], ["plan", "--dir", str(chain)]):
        assert run(arguments) == 3
        assert "apt-get install buildah" in capsys.readouterr().err
    assert run(["doctor", "--dir", str(chain), "--format", "json"]) == 1
    findings = {finding["subject"]: finding for finding in json.loads(capsys.readouterr().out)["findings"]}
    assert findings["builder"]["result"] == "error"
    assert findings["git"]["remedy"] == "apt-get install git"


def test_an_error_shows_its_traceback_only_when_asked(
    chain: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["scan", str(chain / "nothing")]) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert run(["scan", str(chain / "nothing"), "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_a_reader_that_has_seen_enough_is_no_error(chain: Path) -> None:
    for index in range(2_000):
        (chain / f"leaf{index:04}").mkdir()
        (chain / f"leaf{index:04}" / "Containerfile").write_text("FROM localhost/base\n")
    command = [
        sys.executable,
        "-c",
        "from imagechain.cli.main import main; main()",
        "scan",
        str(chain),
        "--format=json",
    ]
    # Python itself loses the error when it is told not to buffer.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"{\n"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 1


def test_completion_knows_the_commands(tmp_path: Path) -> None:
    file = tmp_path / "completion"
    done = subprocess.run(
        [
            *(sys.executable, "-c", "from imagechain.cli.main import main; main()"),
            *("--install-completion", "--shell", "bash", "--output", str(file)),
        ],
        check=False,
        capture_output=True,
        env={**os.environ, "HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    written = file.read_text()
    assert all(command in written for command in ("scan", "up", "explain", "--dry-run"))
