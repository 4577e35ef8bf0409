"""The real docker-registry on loopback: open, with passwords, and with a token service of our own."""

import base64
import contextlib
import http.server
import json
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx2
import msgspec
import pytest

from registry.pictures import Stored, sha256

START_SECONDS_MAX = 20.0
USER, PASSWORD = "alice", "correct horse"
#: bcrypt of the password above, with the least cost.
HTPASSWD = f"{USER}:$2b$04$1bQ54T4R/jqhiIIh6.2T9e3D4aHrEYmt5Al9E18/6SeYJaucZ2E22\n"
TOKEN_SECONDS = 60


class Server(msgspec.Struct, frozen=True):
    """A running docker-registry."""

    #: Host and port.
    address: str

    def push(
        self, repository: str, stored: Stored, tag: str | None = None, *, authorization: str = ""
    ) -> None:
        """Push by plain requests."""
        headers = {"Authorization": authorization} if authorization else {}
        with httpx2.Client(base_url=f"http://{self.address}/v2/{repository}/", headers=headers) as client:
            _push(client, stored, tag)


def _push(client: httpx2.Client, stored: Stored, tag: str | None) -> None:
    for child in stored.children:
        _push(client, child, None)
    for blob in stored.blobs:
        upload = httpx2.URL(_checked(client.post("blobs/uploads/")).headers["Location"])
        _checked(client.put(upload.copy_merge_params({"digest": sha256(blob)}), content=blob))
    headers = {"Content-Type": stored.media_type}
    _checked(client.put(f"manifests/{tag or stored.digest}", content=stored.raw, headers=headers))


def _checked(response: httpx2.Response) -> httpx2.Response:
    assert response.is_success, response.text
    return response


def basic(username: str, password: str) -> str:
    """Write a Basic login."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def run_registry(
    folder: Path, *, auth: dict[str, object] | None = None, tls: dict[str, str] | None = None
) -> Iterator[Server]:
    """Run docker-registry as long as it is needed."""
    if not shutil.which("docker-registry"):
        pytest.skip("docker-registry is not installed (Debian: docker-registry)")
    address = f"127.0.0.1:{free_port()}"
    configuration = {
        "version": 0.1,
        "log": {"accesslog": {"disabled": False}},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {"addr": address, **({"tls": tls} if tls else {})},
        **({"auth": auth} if auth else {}),
    }
    file, log = folder / "config.yml", folder / "log"
    # JSON is YAML.
    file.write_text(json.dumps(configuration))
    with log.open("wb") as stream:
        process = subprocess.Popen(["docker-registry", "serve", file], stdout=stream, stderr=stream)
    try:
        _wait(f"http://{address}/v2/", process, log)
        yield Server(address)
    finally:
        process.kill()
        process.wait()


@contextlib.contextmanager
def metered(server: Server, limit: int, left: int) -> Iterator[tuple[str, list[int]]]:
    """Stand before a registry as one with a quota of pulls; give the address, and what is left of it."""
    remaining, lock = [left], threading.Lock()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            headers = {"Accept": self.headers.get("Accept", "*/*"), "Accept-Encoding": "identity"}
            reply = httpx2.request(self.command, f"http://{server.address}{self.path}", headers=headers)
            with lock:
                if self.command == "GET" and "/manifests/" in self.path:
                    remaining[0] -= 1
                told = {
                    "RateLimit-Limit": f"{limit};w=21600",
                    "RateLimit-Remaining": f"{remaining[0]};w=21600",
                }
            self.send_response(reply.status_code)
            kept = {
                name: reply.headers[name] for name in reply.headers if name.lower() not in {"date", "server"}
            }
            for name, value in {**kept, **told}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply.content)

        def do_HEAD(self) -> None:
            self.do_GET()

        def log_message(self, format: str, *arguments: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, daemon=True)
        thread.start()
        yield f"127.0.0.1:{proxy.server_address[1]}", remaining
        proxy.shutdown()
        thread.join()


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS_MAX
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(httpx2.TransportError):
            httpx2.get(url)
            return
        time.sleep(0.05)
    pytest.fail(f"docker-registry did not start:\n{log.read_text()[-2000:]}")


class TokenService:
    """Signs tokens that docker-registry accepts, for anybody (read) or for the user (read and write)."""

    def __init__(self, folder: Path) -> None:
        self.key, self.certificate = folder / "key.pem", folder / "certificate.pem"
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30"),
                *("-subj", "/CN=tokens", "-keyout", self.key, "-out", self.certificate),
            ],
            check=True,
            capture_output=True,
        )
        self.asked: list[str] = []
        self.seconds = TOKEN_SECONDS

    def token(self, scopes: list[str], service: str) -> str:
        """Sign a token for what is asked."""
        access = []
        for scope in scopes:
            kind, name, actions = scope.split(":")
            access.append({"type": kind, "name": name, "actions": actions.split(",")})
        now = int(time.time())
        times = {"exp": now + self.seconds, "nbf": now - 10, "iat": now}
        claims = {
            "iss": "tests",
            "sub": "",
            "aud": service,
            "jti": f"{now}-{len(self.asked)}",
            "access": access,
        }
        pem = self.certificate.read_text().split("-----")[2].replace("\n", "")
        header = {"typ": "JWT", "alg": "RS256", "x5c": [pem]}
        text = f"{_encode(json.dumps(header).encode())}.{_encode(json.dumps({**claims, **times}).encode())}"
        signature = subprocess.run(
            ["openssl", "dgst", "-sha256", "-sign", self.key],
            input=text.encode(),
            capture_output=True,
            check=True,
        ).stdout
        return f"{text}.{_encode(signature)}"

    @contextlib.contextmanager
    def serve(self) -> Iterator[str]:
        """Answer over HTTP; give the realm."""
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                service.asked.append(self.path)
                query = parse_qs(urlsplit(self.path).query)
                login = self.headers.get("Authorization")
                allowed = login is None or login == basic(USER, PASSWORD)
                body = b"{}"
                if allowed:
                    scopes = query.get("scope", [])
                    if login is None:
                        scopes = [f"{scope.rpartition(':')[0]}:pull" for scope in scopes]
                    token = service.token(scopes, query["service"][0])
                    body = json.dumps({"token": token, "expires_in": service.seconds}).encode()
                self.send_response(200 if allowed else 401)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *arguments: object) -> None:
                """Say nothing."""

        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            thread = threading.Thread(target=server.serve_forever, daemon=True)
            thread.start()
            yield f"http://127.0.0.1:{server.server_address[1]}/token"
            server.shutdown()
            thread.join()


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@pytest.fixture(scope="session")
def open_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with run_registry(tmp_path_factory.mktemp("open")) as server:
        yield server


@pytest.fixture(scope="session")
def password_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("password")
    (folder / "htpasswd").write_text(HTPASSWD)
    auth: dict[str, object] = {"htpasswd": {"realm": "tests", "path": str(folder / "htpasswd")}}
    with run_registry(folder, auth=auth) as server:
        yield server


@pytest.fixture(scope="session")
def token_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Server, TokenService]]:
    folder = tmp_path_factory.mktemp("token")
    if not shutil.which("openssl"):
        pytest.skip("openssl is not installed: it signs the tokens of this test")
    service = TokenService(folder)
    with service.serve() as realm:
        token: dict[str, object] = {
            "realm": realm,
            "service": "registry",
            "issuer": "tests",
            "rootcertbundle": str(service.certificate),
        }
        with run_registry(folder, auth={"token": token}) as server:
            yield server, service
