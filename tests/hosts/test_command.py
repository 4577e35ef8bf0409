"""The command, as a person meets it: help, tables, JSON, exit codes, errors that say what to do."""

import json
from pathlib import Path

import pytest

from hosts.machines import HostMachine
from imagechain.cli import main


def settings(tmp_path: Path, text: str) -> str:
    file = tmp_path / "imagechain.toml"
    file.write_text(text)
    return str(file)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[hosts]\nparallel = 0\n", "parallel must be from 1 to 64"),
        ("[hosts]\nrollbacks_max = 0\n", "rollbacks_max must be at least 1"),
        ("[hosts]\nkeep_images = -1\n", "keep_images must not be negative"),
        ('[hosts]\nwindows = ["at night"]\n', "window 'at night' is no cron expression"),
        ('[hosts]\nselect = "some"\n', "hosts.select"),
        ('[hosts]\nsettel = "1s"\n', "did you mean 'settle'?"),
        ('[hosts]\nusers = ["a", "a"]\n', "users names somebody twice"),
        ('[hosts]\nusers = ["nobody-at-all"]\n', "there is no user 'nobody-at-all'"),
        ('[hosts.hooks]\nbefor = ["x"]\n', "did you mean 'before'?"),
    ],
)
def test_wrong_settings_are_told_with_their_remedy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, told: str
) -> None:
    assert main.run(["hosts", "status", "--config", settings(tmp_path, text)]) == 2
    assert told in capsys.readouterr().err


def test_without_podman_it_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main.run(["hosts", "status", "--config", settings(tmp_path, "")]) == 3
    assert capsys.readouterr().err == "imagechain: podman is not installed\n"


def test_what_is_remembered_and_cannot_be_read_is_told_and_nothing_is_touched(
    real: HostMachine, tmp_path: Path
) -> None:
    memory = real.folder / "state/hosts/root/memory.json"
    memory.parent.mkdir(parents=True)
    memory.write_text("{")
    done = real.command("update")
    assert done.returncode == 3
    assert "look at the containers by hand" in done.stderr
    assert real.calls() == []


def test_a_person_sees_what_runs_what_would_be_done_and_what_was_done(real: HostMachine) -> None:
    reference = real.push("told", version="1", changes=('CMD ["sleep", "1000"]',))
    real.podman("pull", "--quiet", reference)
    real.podman("run", "--detach", "--init", "--name=web", "--env=PASSWORD=s3cret", reference)
    table = real.command("status")
    assert table.returncode == 0
    header, row = table.stdout.splitlines()
    assert header.split() == ["CONTAINER", "IMAGE", "DIGEST", "AGE", "STATE", "WHY"]
    assert row.split()[:2] == ["web", reference]
    assert row.split()[-1] == "current"
    # What the HEAD told is for vetting, too.
    (line,) = (real.folder / "state/vetting/tags.jsonl").read_text().splitlines()
    seen = json.loads(line)
    assert (seen["ref"], seen["digest"].partition(":")[0]) == (reference, "sha256")

    real.push("told", version="2", changes=('CMD ["sleep", "1000"]',))
    before = real.inspect("web")["Id"]
    dry = real.command("update", "--dry-run", "--format=json")
    assert dry.returncode == 0
    (told,) = json.loads(dry.stdout)["containers"]
    assert (told["state"], told["owner"]) == ("outdated", "command")
    assert told["available"].startswith("sha256:")
    assert real.inspect("web")["Id"] == before
    assert not (real.folder / "state/hosts").exists()

    missing = real.command("update", "--dry-run", "nothing")
    assert (missing.returncode, missing.stdout) == (2, "")
    assert "there is no container nothing" in missing.stderr

    done = real.command("update", "web")
    assert done.returncode == 0
    assert done.stdout.startswith("web: updated (down for ")

    real.push("told", version="3", changes=('CMD ["sh", "-c", "echo it is broken; exit 4"]',))
    done = real.command("update")
    assert done.returncode == 1
    assert "exit code 4" in done.stdout
    assert "    it is broken" in done.stdout
    assert "s3cret" not in done.stdout + done.stderr
    assert real.command("update").stdout == "nothing to do\n"

    registries = real.machine.registries.read_text()
    real.machine.registries.write_text(registries.replace("insecure = true", "blocked = true"))
    try:
        status = real.command("status")
    finally:
        real.machine.registries.write_text(registries)
    assert status.returncode == 3
    assert "unknown" in status.stdout
    assert "could not be checked" in status.stdout


def test_what_runs_here_is_vetted_as_in_use(real: HostMachine) -> None:
    reference = real.push("used", version="1", changes=('CMD ["sleep", "1000"]',))
    real.podman("pull", "--quiet", reference)
    real.podman("tag", reference, "localhost/own:1")
    for name, image in (("a", reference), ("b", reference), ("c", "localhost/own:1")):
        real.podman("run", "--detach", "--init", f"--name={name}", image)
    done = real.run("vet", "--used", "--format=json")
    assert [(each["ref"], each["problem"]) for each in json.loads(done.stdout)] == [(reference, "")], done
