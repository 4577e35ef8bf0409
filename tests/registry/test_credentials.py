"""Logins where podman and docker keep them, and their credential helpers."""

import asyncio
import base64
import json
import os
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagechain.registry import ConfigurationError, Credential, usual_auth_files
from imagechain.registry import credentials as credentials_module
from imagechain.registry.credentials import Credentials
from registry.fakes import FakeClock

HOST = "registry.example.com"


def login(username: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{username}:{password}".encode()).decode()}


def find(content: object, domain: str, path: str, folder: Path) -> Credential | None:
    file = folder / "auth.json"
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return asyncio.run(make(file).find(domain, path))


def make(
    *files: Path, fallbacks: dict[str, Credential] | None = None, own: Path | None = None
) -> Credentials:
    own_files = {HOST: own} if own else {}
    return Credentials(files, own_files=own_files, fallbacks=fallbacks or {}, clock=FakeClock())


def test_the_longest_path_wins(tmp_path: Path) -> None:
    auths = {
        "registry.example.com": login("host", "1"),
        "registry.example.com/group": login("group", "2"),
        "registry.example.com/group/base": login("base", "3"),
    }
    found = {
        path: find({"auths": auths}, HOST, path, tmp_path)
        for path in ("other", "group", "group/ruby", "group/base", "group/base/deep", "groups")
    }
    assert {path: credential and credential.username for path, credential in found.items()} == {
        "other": "host",
        "group": "group",
        "group/ruby": "group",
        "group/base": "base",
        "group/base/deep": "base",
        "groups": "host",
    }


@pytest.mark.parametrize(
    "key",
    [
        "docker.io",
        "index.docker.io",
        "https://index.docker.io/v1/",
        "https://index.docker.io/v1",
        "registry-1.docker.io",
    ],
)
def test_docker_hub_is_known_by_all_its_names(tmp_path: Path, key: str) -> None:
    assert find({"auths": {key: login("a", "b")}}, "docker.io", "library/alpine", tmp_path) == Credential(
        "a", "b"
    )


@pytest.mark.parametrize("key", [HOST, f"https://{HOST}", f"https://{HOST}/v2/", f"http://{HOST}/"])
def test_keys_may_be_urls(tmp_path: Path, key: str) -> None:
    assert find({"auths": {key: login("a", "b")}}, HOST, "x", tmp_path) == Credential("a", "b")


def test_a_login_with_a_port_is_of_that_port_only(tmp_path: Path) -> None:
    auths = {"auths": {f"{HOST}:5000": login("a", "b")}}
    assert find(auths, HOST, "x", tmp_path) is None
    assert find(auths, f"{HOST}:5000", "x", tmp_path) == Credential("a", "b")


@settings(deadline=None)
@given(
    st.text(
        alphabet=st.characters(blacklist_characters=":", min_codepoint=33, max_codepoint=0x2FF), min_size=1
    ),
    st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=0x2FF)),
)
def test_any_name_and_password_come_back(username: str, password: str) -> None:
    entry = credentials_module._Entry(**login(username, password))
    assert credentials_module._decode_entry(Path("f"), "k", entry) == Credential(username, password)


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ({}, None),
        ({"username": "a", "password": "b"}, Credential("a", "b")),
        ({**login("a", ""), "identitytoken": "t"}, Credential("a", "", "t")),
        ({"auth": base64.b64encode(b"a:b\0\0").decode()}, Credential("a", "b")),
        (login("a", "b:c"), Credential("a", "b:c")),
    ],
)
def test_entries_of_all_forms_are_read(
    tmp_path: Path, entry: dict[str, str], expected: Credential | None
) -> None:
    found = find({"auths": {HOST: entry}}, HOST, "x", tmp_path)
    assert found == expected


@pytest.mark.parametrize("secret", ["!!!not base64!!!", base64.b64encode(b"no colon").decode(), "c2VjcmV0"])
def test_an_entry_that_cannot_be_read_is_named_without_its_secret(tmp_path: Path, secret: str) -> None:
    with pytest.raises(ConfigurationError, match=HOST) as caught:
        find({"auths": {HOST: {"auth": secret}}}, HOST, "x", tmp_path)
    assert secret not in str(caught.value)
    assert "auth.json" in str(caught.value)


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"auths": 5}', '{"auths": {"a": 5}}', "[" * 100_000, "\ud800"]
)
def test_a_file_that_is_no_auth_file_is_named(tmp_path: Path, content: str) -> None:
    file = tmp_path / "auth.json"
    file.write_bytes(content.encode(errors="surrogatepass"))
    with pytest.raises(ConfigurationError, match=r"auth\.json"):
        asyncio.run(make(file).find(HOST, "x"))


def test_a_huge_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="larger than"):
        find(" " * (1024 * 1024) + "{}", HOST, "x", tmp_path)


@pytest.mark.parametrize("content", ["", "\n"])
def test_an_empty_file_holds_no_login(tmp_path: Path, content: str) -> None:
    assert find(content, HOST, "x", tmp_path) is None


def test_the_first_file_with_a_login_counts(tmp_path: Path) -> None:
    own, first, second = (tmp_path / name for name in ("own", "first", "second"))
    first.write_text(json.dumps({"auths": {"other.example.com": login("other", "x")}}))
    second.write_text(json.dumps({"auths": {HOST: login("second", "x")}}))
    files = (tmp_path / "missing", first, second)
    fallbacks = {HOST: Credential("gitlab", "x"), "gitlab.example.com": Credential("gitlab", "x")}

    def username(domain: str, own: Path | None = None) -> str:
        credential = asyncio.run(make(*files, fallbacks=fallbacks, own=own).find(domain, "x"))
        return credential.username if credential else ""

    assert username(HOST) == "second"
    assert username("gitlab.example.com") == "gitlab"
    assert username("nowhere.example.com") == ""
    own.write_text(json.dumps({"auths": {HOST: login("own", "x")}}))
    assert username(HOST, own) == "own"


def test_a_missing_file_of_the_settings_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="does not exist"):
        asyncio.run(make(own=tmp_path / "missing").find(HOST, "x"))


def test_a_file_is_read_again_after_a_while(tmp_path: Path) -> None:
    file, clock = tmp_path / "auth.json", FakeClock()
    credentials = Credentials([file], own_files={}, fallbacks={}, clock=clock)

    async def run() -> list[Credential | None]:
        found = [await credentials.find(HOST, "x")]
        file.write_text(json.dumps({"auths": {HOST: login("a", "b")}}))
        found.append(await credentials.find(HOST, "x"))
        clock.now += 301
        found.append(await credentials.find(HOST, "x"))
        return found

    assert asyncio.run(run()) == [None, None, Credential("a", "b")]


def test_the_usual_places_are_those_of_podman_and_docker() -> None:
    environ = {
        "HOME": "/home/a",
        "REGISTRY_AUTH_FILE": "/run/named.json",
        "XDG_RUNTIME_DIR": "/run/user/1",
        "DOCKER_CONFIG": "/etc/docker-client",
    }
    assert [str(file) for file in usual_auth_files(environ)] == [
        "/run/named.json",
        "/run/user/1/containers/auth.json",
        "/home/a/.config/containers/auth.json",
        "/etc/docker-client/config.json",
        "/home/a/.docker/config.json",
    ]
    assert [str(file) for file in usual_auth_files({"HOME": "/home/a"})] == [
        "/home/a/.config/containers/auth.json",
        "/home/a/.docker/config.json",
    ]


# --- credential helpers ---------------------------------------------------------------------------------


@pytest.fixture
def helper(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A credential helper in the PATH; write its script."""
    folder = tmp_path / "bin"
    folder.mkdir()
    file = folder / "docker-credential-test"
    file.touch(mode=0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return file


ANSWER = '{"ServerURL": "x", "Username": "from", "Secret": "helper"}'


@pytest.mark.parametrize(("domain", "asked"), [(HOST, HOST), ("docker.io", "https://index.docker.io/v1/")])
def test_a_helper_is_asked_for_its_registry(helper: Path, tmp_path: Path, domain: str, asked: str) -> None:
    helper.write_text(f'#!/bin/sh\n[ "$1" = get ] && [ "$(cat)" = "{asked}" ] && echo \'{ANSWER}\'\n')
    config = {"credHelpers": {domain: "test"}, "auths": {domain: login("file", "x")}}
    assert find(config, domain, "x", tmp_path) == Credential("from", "helper")


def test_the_store_is_asked_where_the_entry_is_empty(helper: Path, tmp_path: Path) -> None:
    helper.write_text(f"#!/bin/sh\ncat >/dev/null\necho '{ANSWER}'\n")
    config = {"credsStore": "test", "auths": {HOST: {}}}
    assert find(config, HOST, "x", tmp_path) == Credential("from", "helper")


def test_a_helper_may_hold_an_identity_token(helper: Path, tmp_path: Path) -> None:
    helper.write_text('#!/bin/sh\necho \'{"Username": "<token>", "Secret": "refresh"}\'\n')
    found = find({"credHelpers": {HOST: "test"}}, HOST, "x", tmp_path)
    assert found == Credential("<token>", identity_token="refresh")


def test_a_helper_without_a_login_gives_none(helper: Path, tmp_path: Path) -> None:
    helper.write_text("#!/bin/sh\necho 'credentials not found in native keychain'\nexit 1\n")
    assert find({"credsStore": "test"}, HOST, "x", tmp_path) is None


def test_a_helper_is_asked_once_for_all_repositories(helper: Path, tmp_path: Path) -> None:
    helper.write_text(f"#!/bin/sh\necho x >> {tmp_path}/asked\necho '{ANSWER}'\n")
    file = tmp_path / "auth.json"
    file.write_text(json.dumps({"credHelpers": {HOST: "test"}}))
    credentials = make(file)

    async def run() -> None:
        for number in range(5):
            await credentials.find(HOST, f"repository-{number}")

    asyncio.run(run())
    assert (tmp_path / "asked").read_text() == "x\n"


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ("echo nonsense secret-word", "did not answer"),
        ("echo secret-word >&2; exit 2", "exit code 2"),
        ("yes secret-word | head -c 1000000", "did not answer"),
        ("echo '[]'", "did not answer"),
    ],
)
def test_a_helper_that_fails_is_named_without_what_it_said(
    helper: Path, tmp_path: Path, script: str, problem: str
) -> None:
    helper.write_text(f"#!/bin/sh\n{script}\n")
    with pytest.raises(ConfigurationError, match=problem) as caught:
        find({"credHelpers": {HOST: "test"}}, HOST, "x", tmp_path)
    assert "docker-credential-test" in str(caught.value)
    assert "secret-word" not in str(caught.value)


def test_a_helper_that_hangs_is_stopped(
    helper: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(credentials_module, "HELPER_SECONDS_MAX", 0.3)
    helper.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nsleep 100\n")
    begun = time.monotonic()
    with pytest.raises(ConfigurationError, match=r"0\.3 s"):
        find({"credHelpers": {HOST: "test"}}, HOST, "x", tmp_path)
    assert time.monotonic() - begun < 10
    pid = int((tmp_path / "pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.parametrize("name", ["missing-helper", "../../bin/sh", "a b", "-x"])
def test_a_helper_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigurationError, match=r"auth\.json"):
        find({"credHelpers": {HOST: name}}, HOST, "x", tmp_path)
