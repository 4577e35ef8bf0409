"""GitLab behind a certificate of an own authority."""

import asyncio
import shutil
import ssl
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from imagechain.config import GitLabSettings
from imagechain.gitlab import rest
from imagechain.gitlab.client import connect
from imagechain.gitlab.errors import PermanentError


class _Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'{"version": "19.0.0"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    if shutil.which("openssl") is None:
        pytest.skip("needs the program openssl")
    file = tmp_path / "gitlab.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=gitlab"
    names = ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(tmp_path / "key"), "-out", str(file)]
    subprocess.run([*command.split(), *names], check=True, capture_output=True)
    return file


@pytest.fixture
def url(certificate: Path) -> Iterator[str]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, certificate.parent / "key")
    with ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"https://127.0.0.1:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def version(url: str, ca_file: str, folder: Path) -> str:
    token = folder / "token"
    token.write_text("glpat-1")

    async def ask() -> str:
        settings = GitLabSettings(url=url, token_file=str(token), ca_file=ca_file)
        async with connect(settings, {}) as client:
            return (await client.send(rest.version())).version

    return asyncio.run(ask())


def test_the_certificate_of_an_own_authority_is_trusted_if_it_is_named(
    url: str, certificate: Path, tmp_path: Path
) -> None:
    assert version(url, str(certificate), tmp_path) == "19.0.0"
    with pytest.raises(PermanentError, match=r"not trusted.*gitlab\.ca_file"):
        version(url, "", tmp_path)
