"""What a person is told who names a wrong address, or none, of a service."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from imagechain.cli.main import run


@contextmanager
def another_program(status: int) -> Iterator[str]:
    """Answer everything with a page for people."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"<html>Sign in</html>")

        def do_POST(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *args: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("status", [200, 401, 404, 502])
def test_another_program_at_the_address_is_told_from_a_service(
    status: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "token").write_text("a-token-for-tests")
    with another_program(status) as url:
        for command in (["status"], ["plan"], ["retry", "x", "--api-token-file", str(tmp_path / "token")]):
            assert run([*command, "--server", url]) == 3
            assert "is no imagechain service" in capsys.readouterr().err


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
