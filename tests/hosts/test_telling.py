"""Who is told: webhook, mail and journal; what is never told; and for which users podman is run."""

import asyncio
import http.server
import json
import os
import pwd
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from hosts.fake import GRAMMAR
from imagechain.config import HostNotify
from imagechain.hosts.notify import Notifier
from imagechain.hosts.podman import NoUserError, find_user
from imagechain.hosts.replay import redacted
from imagechain.hosts.update import Outcome

_DONE = Outcome(containers=("web", "db"), result="updated", down_seconds=0.4)
_BACK = Outcome(
    containers=("app",), result="rolled-back", why="app ended with\nexit code 3", log="secret log"
)


class Hook(http.server.BaseHTTPRequestHandler):
    bodies: ClassVar[list[bytes]] = []
    status = 200

    def do_POST(self) -> None:
        self.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(self.status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None: ...


@pytest.fixture
def hook() -> Iterator[str]:
    Hook.bodies = []
    with http.server.HTTPServer(("127.0.0.1", 0), Hook) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/key-of-the-hook"
        server.shutdown()


def tell(settings: HostNotify, *outcomes: Outcome, journal: Path = Path("/nowhere")) -> list[str]:
    return asyncio.run(Notifier(settings, {}, journal=journal).tell("root", outcomes))


def test_a_webhook_gets_what_was_changed_as_json(hook: str, tmp_path: Path) -> None:
    (tmp_path / "url").write_text(hook + "\n")
    settings = HostNotify(webhook_file=str(tmp_path / "url"))
    assert tell(settings, _DONE, _BACK) == []
    told = json.loads(Hook.bodies[0])
    assert (told["host"], told["user"]) == (socket.gethostname(), "root")
    assert [one["result"] for one in told["outcomes"]] == ["updated", "rolled-back"]
    assert b"secret log" not in Hook.bodies[0]


def test_a_run_that_changed_nothing_tells_nobody(hook: str, tmp_path: Path) -> None:
    (tmp_path / "url").write_text(hook)
    settings = HostNotify(webhook_file=str(tmp_path / "url"))
    assert tell(settings) == []
    assert tell(settings, Outcome(containers=("web",), result="postponed", why="the window has ended")) == []
    assert Hook.bodies == []


def test_a_webhook_that_fails_is_said_without_its_url(
    hook: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "url").write_text(hook)
    monkeypatch.setattr(Hook, "status", 500)
    settings = HostNotify(webhook_file=str(tmp_path / "url"))
    assert tell(settings, _DONE) == ["the webhook was not told: it answered 500"]
    (tmp_path / "url").write_text("http://127.0.0.1:1/key-of-the-hook")
    assert tell(settings, _DONE) == ["the webhook was not told: ConnectError"]
    (problem,) = tell(HostNotify(webhook_file=str(tmp_path / "missing")), _DONE)
    assert "cannot read the secret file" in problem


def test_mail_goes_through_sendmail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sendmail").write_text(f"#!/bin/sh\ncat > {tmp_path}/mail\n")
    (tmp_path / "sendmail").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert tell(HostNotify(mail=("root@example.org",)), _DONE, _BACK) == []
    mail = (tmp_path / "mail").read_text()
    assert "To: root@example.org" in mail
    assert f"Subject: imagechain on {socket.gethostname()}: 1 updated, 1 not" in mail
    assert "web, db: updated" in mail


def test_the_journal_gets_an_entry_for_each_update(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
        journal.bind(str(tmp_path / "journal"))
        assert tell(HostNotify(), _DONE, _BACK, journal=tmp_path / "journal") == []
        entries = [journal.recv(4096).decode().splitlines() for _ in range(2)]
    assert "PRIORITY=5" in entries[0]
    assert "IMAGECHAIN_CONTAINERS=web db" in entries[0]
    assert "MESSAGE=app: rolled-back: app ended with exit code 3" in entries[1]
    assert "PRIORITY=3" in entries[1]


# --- users ----------------------------------------------------------------------------------------------


def test_ones_own_podman_gets_what_it_needs_of_the_environment_and_no_more() -> None:
    environ = {"PATH": "/p", "HOME": "/h", "CONTAINERS_CONF": "/c", "SECRET": "s", "NOTIFY_SOCKET": "/n"}
    user = find_user("", environ)
    assert user.is_self
    assert user.environment == {"PATH": "/p", "HOME": "/h", "CONTAINERS_CONF": "/c"}
    assert find_user(pwd.getpwuid(os.geteuid()).pw_name, environ) == user


def test_who_does_not_exist_or_has_no_runtime_folder_is_told_with_what_to_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(NoUserError, match="there is no user 'nobody-at-all'"):
        find_user("nobody-at-all", {})
    if os.geteuid() == 0:
        with pytest.raises(NoUserError, match="loginctl enable-linger nobody"):
            find_user("nobody", {})
    monkeypatch.setattr(os, "geteuid", lambda: 12_345)
    with pytest.raises(NoUserError, match="run this as root or as daemon"):
        find_user("daemon", {})


def test_another_users_podman_is_run_as_that_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(Path, "is_dir", lambda self: str(self) == "/run/user/1")
    entry = pwd.getpwnam("daemon")
    user = find_user("daemon", {"PATH": "/p", "HOME": "/root", "CONTAINERS_CONF": "/c", "https_proxy": "p"})
    assert user.prefix[:3] == ("setpriv", f"--reuid={entry.pw_uid}", f"--regid={entry.pw_gid}")
    assert user.environment["HOME"] == entry.pw_dir
    assert user.environment["XDG_RUNTIME_DIR"] == f"/run/user/{entry.pw_uid}"
    assert user.environment["https_proxy"] == "p"
    assert "CONTAINERS_CONF" not in user.environment


@pytest.mark.parametrize(
    ("command", "told"),
    [
        ("podman run -eA=s3cret --name x app", "podman run -eA=… --name x app"),
        ("podman run --env PW=s3cret -e NAME app -e b=c", "podman run --env PW=… -e NAME app -e b=c"),
        ("podman run --odd PW=s3cret app", "podman run …"),
    ],
)
def test_a_command_is_told_without_the_values_of_its_variables(command: str, told: str) -> None:
    assert redacted(command.split(), GRAMMAR).replace("'", "") == told
