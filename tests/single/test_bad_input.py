"""What people get wrong is told in one sentence that says what to do; nothing is built."""

import json
import os
import stat
from pathlib import Path

import pytest

from imagechain.cli.main import run
from imagechain.config import ConfigError
from imagechain.images.auth_file import write_auth_file
from imagechain.images.secrets import SecretArgumentError, check_arguments
from imagechain.registry import Credential


class Folder:
    def __init__(self, top: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self.top = top
        self._capfd = capfd

    def write(self, **files: str) -> "Folder":
        for name, text in files.items():
            file = self.top / name.replace("__", "/").replace("_in", ".in")
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return self

    def refuse(self, *arguments: str) -> str:
        """Run a build that is refused; return what it says."""
        code = run(["image", "build", *arguments, "--dir", str(self.top)])
        captured = self._capfd.readouterr()
        assert code == 2, captured.err
        assert "Traceback" not in captured.err
        return captured.err


@pytest.fixture
def folder(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> Folder:
    return Folder(tmp_path / "repository", capfd).write(Containerfile="FROM scratch\n")


def test_a_name_without_a_file_names_the_places_that_were_looked_at(folder: Folder) -> None:
    said = folder.refuse("web") if folder.write(builds__other="FROM scratch\n") else ""
    for place in ("builds/web", "builds/web.in", "web/Containerfile", "web/Dockerfile", "--file"):
        assert place in said
    assert "Containerfile.in, Containerfile" not in said, "a folder of builds is the whole list"


@pytest.mark.parametrize("name", ["../web", "/etc/passwd", "a//b", "a b", "."])
def test_a_name_leads_nowhere_else(folder: Folder, name: str) -> None:
    assert "is no name of an image" in folder.refuse(name)


def test_a_file_outside_of_the_repository_is_refused(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "Containerfile").write_text("FROM scratch\n")
    assert "is outside of" in folder.refuse("--file=../Containerfile")


def test_a_file_outside_of_the_context_is_refused(folder: Folder) -> None:
    folder.write(app__data="x")
    said = folder.refuse("--file=Containerfile", "--context=app")
    assert "Containerfile is outside of the build context" in said


def test_without_the_preprocessor_the_package_is_named(
    folder: Folder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "install the package cpp" in folder.write(builds__web_in="FROM scratch\n").refuse("web")


def test_a_missing_block_is_named_with_its_line(folder: Folder) -> None:
    said = folder.write(builds__web_in='FROM scratch\n#include "nothing"\n').refuse("web")
    assert "builds/web.in:2" in said
    assert "nothing" in said


def test_a_build_argument_without_a_value_is_named(folder: Folder) -> None:
    assert "NAME=VALUE" in folder.refuse("--build-arg", "VERSION")
    said = folder.write(builds__web_in='#include "setup-from-base"\n').refuse("web")
    assert "BASE_IMAGE" in said
    assert "--build-arg" in said


@pytest.mark.parametrize(
    ("argument", "why"),
    [
        ("NPM_TOKEN=abc", "by its name"),
        ("DB_PASSWORD=abc", "by its name"),
        ("AWS_SECRET_ACCESS_KEY=abc", "by its name"),
        ("api_key=abc", "by its name"),
        ("SOURCE=hidden-in-a-variable", "has the value of the variable DEPLOY_TOKEN"),
        ("INDEX=https://user:word@packages.example.com/simple", "an address with a password"),
        ("WHAT=glpat-aaaaaaaaaaaaaaaaaaaa", "looks like a key"),
    ],
)
def test_a_secret_in_a_build_argument_is_refused_and_not_shown(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, argument: str, why: str
) -> None:
    monkeypatch.setenv("DEPLOY_TOKEN", "hidden-in-a-variable")
    said = folder.refuse("--build-arg", argument)
    assert why in said
    assert "--secret id=" in said
    assert argument.partition("=")[2] not in said.replace("looks like a key", "")


@pytest.mark.parametrize(
    "argument",
    ["TOKEN_URL=x", "PASSWORD_FILE=x", "KEYBOARD=de", "TOKENIZER=x", "SECRET_NAME=x", "API_TOKEN="],
)
def test_what_only_sounds_like_a_secret_is_allowed(argument: str) -> None:
    name, _, value = argument.partition("=")
    check_arguments({name: value}, {"OTHER": value})


def test_short_values_of_secret_variables_are_words_like_others() -> None:
    check_arguments({"COLOUR": "blue"}, {"SOME_PASSWORD": "blue"})
    with pytest.raises(SecretArgumentError):
        check_arguments({"COLOUR": "blue-blue"}, {"SOME_PASSWORD": "blue-blue"})


def test_a_secret_in_the_settings_is_refused_too(folder: Folder) -> None:
    (folder.top / "imagechain.toml").write_text('[chain.build_args]\n"." = {NPM_TOKEN = "abc"}\n')
    assert "NPM_TOKEN is a secret" in folder.refuse()


@pytest.mark.parametrize("secret", ["key", "id=key", "id=key,src=/nowhere", "id=key,env=KEY"])
def test_a_secret_that_no_builder_can_take_is_refused(folder: Folder, secret: str) -> None:
    assert "--secret" in folder.refuse(f"--secret={secret}")


def test_architectures_are_for_the_manifest_and_one_must_be_among_them(
    folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMAGE_ARCHES", "amd64 arm64")
    assert "imagechain image manifest" in folder.refuse()
    monkeypatch.setenv("IMAGE_ARCH", "s390x")
    assert "IMAGE_ARCHES (amd64 arm64)" in folder.refuse()


@pytest.mark.parametrize("arch", ["amd46", "linux/arm64"])
def test_an_architecture_that_no_image_has_is_refused(
    folder: Folder, monkeypatch: pytest.MonkeyPatch, arch: str
) -> None:
    monkeypatch.setenv("IMAGE_ARCH", arch)
    assert f"IMAGE_ARCH: unknown architecture '{arch}'" in folder.refuse()


def test_a_platform_that_is_none_and_parents_that_are_none_are_refused(folder: Folder) -> None:
    assert "--platform" in folder.refuse("--platform=a/b/c/d")
    assert "WRITTEN=USED" in folder.refuse("--parent=a")


def test_a_push_needs_a_tag_and_a_registry(folder: Folder) -> None:
    assert "--tag" in folder.refuse("--push")
    assert "registry" in folder.refuse("web", "--file=Containerfile", "--push", "--tag=x")


def test_the_auth_file_is_private_and_keeps_what_was_there(tmp_path: Path) -> None:
    usual = tmp_path / "usual.json"
    usual.write_text('{"auths": {"a.example.com": {"auth": "YTpi"}}, "credsStore": "pass"}')
    given = {"DOCKER_AUTH_CONFIG": '{"auths": {"b.example.com": {"auth": "Yzpk"}}}'}
    old = os.umask(0)
    try:
        file = write_auth_file(tmp_path, {"docker.io": Credential("e", "f")}, given, [usual])
    finally:
        os.umask(old)
    assert file is not None
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    content = json.loads(file.read_text())
    assert content["auths"] == {
        "a.example.com": {"auth": "YTpi"},
        "b.example.com": {"auth": "Yzpk"},
        "docker.io": {"auth": "ZTpm"},
        "https://index.docker.io/v1/": {"auth": "ZTpm"},
    }
    assert content["credsStore"] == "pass"


def test_without_logins_there_is_no_file_and_a_broken_one_is_told_without_its_text(tmp_path: Path) -> None:
    assert write_auth_file(tmp_path, {}, {}, []) is None
    with pytest.raises(ConfigError) as caught:
        write_auth_file(tmp_path, {}, {"DOCKER_AUTH_CONFIG": '{"auths": {"x": "secret-text"}}'}, [])
    assert "DOCKER_AUTH_CONFIG" in str(caught.value)
    assert "secret-text" not in str(caught.value)
