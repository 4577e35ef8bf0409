"""What a person is told who asks a service, or names a wrong address, or none."""

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from imagechain.cli.main import run


class Quiet(BaseHTTPRequestHandler):
    def answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None: ...


@contextmanager
def listening(handler: type[Quiet]) -> Iterator[str]:
    with HTTPServer(("127.0.0.1", 0), handler) as server:
        # What ends it is looked for that often.
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@contextmanager
def another_program(status: int) -> Iterator[str]:
    """Answer everything with a page for people."""

    class Page(Quiet):
        def do_GET(self) -> None:
            self.answer(status, b"<html>Sign in</html>")

        def do_POST(self) -> None:
            self.do_GET()

    with listening(Page) as url:
        yield url


@contextmanager
def service(
    statuses: Sequence[object] = ([],), ids: Sequence[str] = ()
) -> Iterator[tuple[str, list[object]]]:
    """Answer as a service does: one status after the other, the last for ever; gives what it is told."""
    told: list[object] = []
    left = list(statuses)

    class Page(Quiet):
        def do_GET(self) -> None:
            sources = left.pop(0) if len(left) > 1 else left[0]
            self.answer(200, json.dumps({"sources": sources}).encode())

        def do_POST(self) -> None:
            told.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.answer(202, json.dumps({"ids": ids}).encode())

    with listening(Page) as url:
        yield url, told


def source(state: str, build: str, *, asked: bool = False) -> dict[str, object]:
    reasons = (
        [{"kind": "asked", "input": "", "before": None, "after": None, "text": "asked"}] if asked else []
    )
    last = {"id": build, "url": "", "status": "", "cause": "", "started_at": 0.0, "finished_at": None}
    return {"id": "x", "kind": "project", "state": state, "reasons": reasons, "last_build": last}


@pytest.mark.parametrize("status", [200, 401, 404, 502])
def test_another_program_at_the_address_is_told_from_a_service(
    status: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "token").write_text("a-token-for-tests")
    with another_program(status) as url:
        for command in (["status"], ["plan"], ["retry", "x", "--api-token-file", str(tmp_path / "token")]):
            assert run([*command, "--server", url]) == 3
            assert "is no imagechain service" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("states", "code"),
    [
        # The failure that was there before is not that of the build that was asked for.
        (["failed 1", "failed 1", "building 2", "fresh 2"], 0),
        (["failed 1", "failed 1", "building 2", "failed 2"], 1),
        (["fresh 1", "fresh 1", "stale 1 asked", "building 2", "fresh 2"], 0),
        (["blocked 1", "blocked 1", "blocked 1 asked"], 1),
        (["paused 1", "paused 1 asked"], 1),
        (["inactive 1"], 1),
    ],
)
def test_a_rebuild_is_waited_for_until_it_has_ended_or_goes_no_further(
    states: list[str], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imagechain.cli.command._WAIT_SECONDS", 0.0)
    (tmp_path / "token").write_text("a-token-for-tests")
    shown = [[source(*state.split()[:2], asked="asked" in state)] for state in states]
    with service(shown, ["x"]) as (url, told):
        arguments = ["--wait", "--reason", "new keys", "--api-token-file", str(tmp_path / "token")]
        assert run(["rebuild", "x", "--server", url, *arguments]) == code
    assert told == [{"id": "x", "downstream": False, "reason": "new keys"}]


def test_where_nothing_failed_there_is_nothing_to_retry(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "token").write_text("a-token-for-tests")
    with service() as (url, _):
        assert run(["retry", "--server", url, "--api-token-file", str(tmp_path / "token")]) == 0
    assert capsys.readouterr().out == "retry: nothing to do\n"


def test_a_service_on_this_machine_is_not_asked_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with service() as (url, _):
        for host in ("127.0.0.1", "localhost"):
            assert run(["status", "--server", url.replace("127.0.0.1", host)]) == 0


def test_doctor_is_not_taken_in_by_another_program(capsys: pytest.CaptureFixture[str]) -> None:
    with another_program(200) as url:
        assert run(["doctor", "--server", url]) == 1
    assert "is no imagechain service" in capsys.readouterr().out


def test_what_is_no_address_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status", "--server", "imagechain.example.com"]) == 2
    assert "write one like http://" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["serve"], ["sync"], ["backup", "copy.db"]])
def test_without_any_settings_it_is_said_where_they_may_be(
    command: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("imagechain.cli.settings.SYSTEM_FILE", tmp_path / "nowhere.toml")
    assert run(command) == 2
    assert "there are no settings: neither imagechain.toml in this folder" in capsys.readouterr().err
