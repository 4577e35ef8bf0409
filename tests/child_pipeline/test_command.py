"""`imagechain image pipeline` in a repository of git."""

import subprocess
from pathlib import Path

import pytest
import yaml

from child_pipeline.parts import REGISTRY
from imagechain.cli.main import run


class Repository:
    """A repository with `base` and `app`, which is built from it; the current folder."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.git("init", "--quiet")
        self.write("base/Containerfile", "FROM scratch\nCOPY file /\n")
        self.write("app/Containerfile", f"FROM {REGISTRY}/base:latest\n")
        self.first = self.commit()

    def git(self, *arguments: str) -> str:
        identity = ("-c", "user.name=Somebody", "-c", "user.email=somebody@example.com")
        argv = ["git", *identity, *arguments]
        return subprocess.run(argv, cwd=self.top, check=True, capture_output=True, text=True).stdout.strip()

    def write(self, name: str, text: str) -> None:
        (self.top / name).parent.mkdir(parents=True, exist_ok=True)
        (self.top / name).write_text(text)

    def commit(self) -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message=change")
        return self.git("rev-parse", "HEAD")


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    for name, text in {
        "CI_PIPELINE_ID": "12",
        "CI_PIPELINE_SOURCE": "push",
        "CI_COMMIT_BRANCH": "main",
        "CI_DEFAULT_BRANCH": "main",
        "CI_REGISTRY_IMAGE": REGISTRY,
        "CI_PROJECT_NAME": "project",
    }.items():
        monkeypatch.setenv(name, text)
    monkeypatch.chdir(tmp_path)
    return Repository(tmp_path)


def built(capsys: pytest.CaptureFixture[str], *options: str) -> str:
    assert run(["image", "pipeline", "--output", "child.yml", *options]) == 0
    return capsys.readouterr().err.strip()


def test_only_what_a_push_changed_and_what_follows_is_built(
    repository: Repository, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI_COMMIT_BEFORE_SHA", repository.first)
    repository.write("app/Containerfile", f"FROM {REGISTRY}/base:latest\nUSER 1\n")
    repository.write("app/file", "that nothing reads")
    before_base = repository.commit()
    assert built(capsys) == "1 of 2 images are built (changes since CI_COMMIT_BEFORE_SHA): app"
    repository.write("base/file", "changed")
    repository.commit()
    monkeypatch.setenv("CI_COMMIT_BEFORE_SHA", before_base)
    assert built(capsys) == "2 of 2 images are built (changes since CI_COMMIT_BEFORE_SHA): base, app"
    document = yaml.safe_load((repository.top / "child.yml").read_text())
    assert document["build app"]["needs"] == ["build base"]


def test_nothing_is_built_for_a_readme_unless_all_is_asked_for_or_changes_names_it(
    repository: Repository, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI_COMMIT_BEFORE_SHA", repository.first)
    repository.write("docs/README.md", "new")
    repository.commit()
    assert built(capsys) == "0 of 2 images are built (changes since CI_COMMIT_BEFORE_SHA): none"
    assert "nothing to build" in (repository.top / "child.yml").read_text()
    assert built(capsys, "--all") == "2 of 2 images are built (--all says so): base, app"
    monkeypatch.setenv("CHANGES", "{docs,src}")
    assert built(capsys).startswith("2 of 2 images")


def test_a_deleted_file_counts(
    repository: Repository, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    repository.write("base/file", "there")
    monkeypatch.setenv("CI_COMMIT_BEFORE_SHA", repository.commit())
    repository.git("mv", "base/file", "elsewhere")
    repository.commit()
    assert built(capsys).startswith("2 of 2 images")


def test_without_the_history_everything_is_built_and_the_reason_is_told(
    repository: Repository, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI_COMMIT_BEFORE_SHA", "1" * 40)
    said = built(capsys)
    assert said == (
        "2 of 2 images are built (the history since 111111111111 is not here; "
        "with GIT_DEPTH: 0 only what changed is built): base, app"
    )


def test_outside_ci_it_says_what_is_missing(
    repository: Repository, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CI_PIPELINE_ID")
    assert run(["image", "pipeline", "--output", "child.yml"]) == 2
    assert "CI_PIPELINE_ID and CI_REGISTRY_IMAGE" in capsys.readouterr().err
    assert not (repository.top / "child.yml").exists()


def test_a_repository_that_cannot_be_ordered_gives_no_pipeline(
    repository: Repository, capsys: pytest.CaptureFixture[str]
) -> None:
    repository.write("base/Containerfile", f"FROM {REGISTRY}/app:latest\n")
    assert run(["image", "pipeline", "--output", "child.yml", "--all"]) == 2
    assert "built from each other" in capsys.readouterr().err
    assert not (repository.top / "child.yml").exists()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ("--test=tests.yml", "there is no file tests.yml with a job .test"),
        ("--arches=amd64 amr64", "--arches (IMAGE_ARCHES): unknown architecture 'amr64'"),
    ],
)
def test_what_the_inputs_of_the_template_get_wrong_is_told_before_gitlab_does(
    repository: Repository, capsys: pytest.CaptureFixture[str], option: str, message: str
) -> None:
    assert run(["image", "pipeline", "--output", "child.yml", option]) == 2
    assert message in capsys.readouterr().err
    assert not (repository.top / "child.yml").exists()
    repository.write("tests.yml", ".test: {script: [true]}\n")
    assert run(["image", "pipeline", "--output", "child.yml", "--test=/tests.yml"]) == 0
