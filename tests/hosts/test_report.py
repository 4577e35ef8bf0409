"""What a host says to the service, and what becomes of it where nobody can be told."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import httpx2
import msgspec
import pytest

from hosts.machines import HostMachine
from hosts.worlds import HOST, World
from imagechain.cli import hosts as command
from imagechain.cli import main
from imagechain.config import ConfigError, HostSettings, RegistrySettings, load_settings
from imagechain.hosts.report import CONTAINERS_MAX, HostReport, ReportedContainer, reported_containers
from imagechain.hosts.send import send_report
from imagechain.refs import content_key, decode_image_config, parse_platform, parse_reference
from imagechain.registry import RegistryClient

TOKEN = "web1:0123"
Reports = list[tuple[ReportedContainer, ...]]


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.push("app", "1", index=True)
    world.pull("app")
    world.run("--name=app", "--env=PASSWORD=s3cret", command=("serve", "--key=s3cret"))
    return world


@pytest.fixture
def settings(tmp_path: Path) -> HostSettings:
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    return HostSettings(
        report_to="https://imagechain.example.com/", report_token_file=str(tmp_path / "token")
    )


def reported(world: World) -> ReportedContainer:
    (one,) = reported_containers("root", world.survey(), world.clock.now())
    return one


def test_a_container_is_told_with_all_that_its_image_is_known_by(world: World) -> None:
    world.clock.time += 90
    one = reported(world)
    assert (one.user, one.name, one.image, one.state) == ("root", "app", f"{HOST}/app:latest", "current")
    assert (one.is_running, one.is_outdated, one.made_seconds_ago) == (True, False, 90.0)
    index = world.registry.tags["app"]["latest"]
    (own,) = set(one.digests) - {index}
    manifest = msgspec.json.decode(world.registry.manifests["app", own].raw)
    blob = world.registry.blobs["app", manifest["config"]["digest"]]
    assert one.content == content_key(decode_image_config(blob))


def test_a_container_says_what_it_waits_for(world: World) -> None:
    world.set(windows=("0 4 29 2 *",))
    world.push("app", "2")
    one = reported(world)
    assert (one.state, one.is_outdated) == ("waiting", True)
    assert one.waits_for.endswith("the next window has not begun")


def test_nothing_that_may_be_secret_is_told(world: World) -> None:
    # Of a container that only a person can make anew, `hosts status` shows the command.
    options = ("--env=PASSWORD=s3cret", "--security-opt=seccomp=./s3cret.json")
    world.run("--name=by-hand", *options, command=("serve", "s3cret"))
    world.push("app", "2")
    containers = reported_containers("root", world.survey(), world.clock.now())
    assert [one.state for one in containers] == ["outdated", "manual"]
    told = msgspec.json.encode(containers).decode()
    for word in ("s3cret", "PASSWORD", "--", "serve", "restart"):
        assert word not in told


def test_a_clock_that_went_back_tells_no_age_below_zero(world: World) -> None:
    world.clock.time -= 1_000_000
    assert reported(world).made_seconds_ago == 0.0


# --- sending ----------------------------------------------------------------------------------------------


def send(
    settings: HostSettings, answer: httpx2.Response | Exception, count: int = 0
) -> tuple[str, list[str]]:
    asked = []

    def respond(request: httpx2.Request) -> httpx2.Response:
        asked.append(f"{request.method} {request.url} {request.headers['authorization']}")
        if isinstance(answer, Exception):
            raise answer
        return answer

    one = ReportedContainer(user="root", name="a", image="b", is_running=True, state="current")
    transport = httpx2.MockTransport(respond)
    return asyncio.run(send_report(settings, (one,) * count, {}, transport)), asked


def test_a_report_goes_to_the_service_with_the_token_of_the_host(settings: HostSettings) -> None:
    problem, asked = send(settings, httpx2.Response(200))
    assert problem == ""
    assert asked == [f"POST https://imagechain.example.com/api/v1/hosts Bearer {TOKEN}"]


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (httpx2.Response(401, json={"error": "not your token"}), "answered 401: not your token"),
        (httpx2.Response(400, json={"error": "a\x1b[2Jb"}), "answered 400: a[2Jb"),
        (httpx2.Response(502, text="<html>"), "answered 502"),
        (httpx2.Response(302, headers={"location": "https://evil.example.com"}), "answered 302"),
        (httpx2.ConnectError("refused"), "refused; the next run tries it again"),
        (httpx2.ReadTimeout(""), "ReadTimeout; the next run"),
    ],
)
def test_what_went_wrong_is_told_without_the_token(
    settings: HostSettings, answer: httpx2.Response | Exception, told: str
) -> None:
    problem, asked = send(settings, answer)
    assert told in problem
    assert problem.startswith("the service was not told: ")
    assert "0123" not in problem
    assert len(asked) == 1


def test_more_than_a_report_holds_is_not_sent(settings: HostSettings) -> None:
    problem, asked = send(settings, httpx2.Response(200), CONTAINERS_MAX + 1)
    assert f"this host has {CONTAINERS_MAX + 1}" in problem
    assert asked == []


def test_a_token_that_cannot_be_read_is_told(settings: HostSettings, tmp_path: Path) -> None:
    (tmp_path / "token").unlink()
    problem, asked = send(settings, httpx2.Response(200))
    assert "cannot read the secret file" in problem
    assert asked == []


@contextmanager
def a_service() -> Iterator[tuple[str, list[bytes]]]:
    """Take reports, over a socket; give the address, and what was sent."""
    bodies: list[bytes] = []

    class Page(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", bodies
        server.shutdown()
        thread.join()


def test_podman_tells_the_content_that_the_registry_has(real: HostMachine, tmp_path: Path) -> None:
    changes = (
        'CMD ["sleep", "1000"]', 'ENTRYPOINT ["/bin/env"]', "ENV A=b", "EXPOSE 80", "VOLUME /data",
        "STOPSIGNAL SIGINT", "WORKDIR /tmp", "LABEL c=d",
    )  # fmt: skip
    reference = real.push("told-content", version="1", changes=changes)
    real.podman("pull", "--quiet", reference)
    real.podman("run", "--detach", "--init", "--name=web", "--env=PASSWORD=s3cret", reference)
    (tmp_path / "token").write_text(TOKEN)
    with a_service() as (url, bodies):
        real.write_settings(f'report_to = "{url}"\nreport_token_file = "{tmp_path}/token"')
        try:
            done = real.command("update")
        finally:
            real.write_settings()
    assert (done.returncode, done.stderr) == (0, "")
    (body,) = bodies
    (one,) = msgspec.json.decode(body, type=HostReport).containers
    assert b"s3cret" not in body

    async def content() -> str:
        insecure = {real.registry.host: RegistrySettings(insecure=True)}
        async with RegistryClient(settings=insecure) as client:
            platform = parse_platform("linux/amd64")
            return (await client.image(parse_reference(reference), platform)).content_key

    assert one.content == asyncio.run(content())
    assert (one.name, one.image, one.is_running, one.state) == ("web", reference, True, "current")
    assert one.made_seconds_ago is not None
    assert one.made_seconds_ago < 600


# --- the command ------------------------------------------------------------------------------------------


@pytest.fixture
def told(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Reports:
    """What the command tells the service of the world."""
    reports: Reports = []

    async def take(_settings: object, containers: tuple[ReportedContainer, ...], _environ: object) -> str:
        reports.append(containers)
        return "the service was not told: it sleeps"

    monkeypatch.setattr(command, "send_report", take)
    monkeypatch.setattr(command, "_state_folder", lambda *_: tmp_path / "hosts")
    monkeypatch.setattr(command, "hosts_of", lambda _settings: [world.host()])
    return reports


def run(tmp_path: Path, *words: str, reports: bool = True) -> int:
    more = 'report_to = "https://imagechain.example.com"\nreport_token_file = "token"\n' if reports else ""
    file = tmp_path / "imagechain.toml"
    file.write_text(f"[hosts]\n{more}notify.journal = false\n")
    return main.run(["hosts", *words, "--config", str(file)])


def test_after_an_update_what_runs_then_is_told_and_a_deaf_service_fails_nothing(
    world: World, told: Reports, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world.push("app", "2")
    assert run(tmp_path, "update") == 0
    assert "the service was not told: it sleeps" in capsys.readouterr().err
    (report,) = told
    assert [(one.name, one.state) for one in report] == [("app", "current")]
    assert world.registry.tags["app"]["latest"] in report[0].digests
    assert run(tmp_path, "update") == 0
    assert len(told) == 2


def test_looking_tells_nobody(world: World, told: Reports, tmp_path: Path) -> None:
    assert run(tmp_path, "status") == 0
    assert run(tmp_path, "update", "--dry-run") == 0
    assert run(tmp_path, "update", reports=False) == 0
    assert told == []


def test_a_report_costs_no_call_of_podman_where_nothing_moved(
    world: World, told: Reports, tmp_path: Path
) -> None:
    world.podman.calls.clear()
    assert run(tmp_path, "update") == 0
    assert world.podman.calls == ["ps", "container inspect", "image inspect"]
    assert len(told) == 1


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ('report_to = "imagechain.example.com"', "is no address"),
        ('report_to = "ftp://imagechain.example.com"', "is no address"),
        ('report_to = "https://imagechain.example.com"', "hosts token NAME"),
    ],
)
def test_settings_that_nobody_could_be_told_by_are_refused(tmp_path: Path, text: str, wrong: str) -> None:
    (tmp_path / "imagechain.toml").write_text(f"[hosts]\n{text}\n")
    with pytest.raises(ConfigError, match=wrong):
        load_settings(tmp_path / "imagechain.toml", {})


def test_the_token_file_lies_beside_the_settings(tmp_path: Path) -> None:
    (tmp_path / "imagechain.toml").write_text(
        '[hosts]\nreport_to = "https://i.example.com"\nreport_token_file = "report-token"\n'
    )
    found = load_settings(tmp_path / "imagechain.toml", {}).hosts.report_token_file
    assert found == str(tmp_path / "report-token")
