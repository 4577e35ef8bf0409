"""A fix on its way: a base moves, images are built on it, a host makes its containers anew and says so."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest
import structlog
import uvicorn

from hosts.worlds import World
from imagechain.cli.main import run
from imagechain.hosts.report import reported_containers
from imagechain.hosts.run import survey, update
from imagechain.hosts.send import send_report
from imagechain.refs import content_key, decode_image_config
from imagechain.service.host_tokens import HostTokens
from imagechain.service.ports import ImageRead
from registry.pictures import make_image
from service.test_whole import fresh, ready
from service.whole import API_TOKEN, KEY, REGISTRY, Whole, store_at, until


class Cloud(Whole):
    """A GitLab whose images a host pulls: what a job builds is in the registry of the host's world."""

    def __init__(self, store_url: str, host: World) -> None:
        self.host = host
        super().__init__(store_url)

    def set_image(self, reference: str, content: str, inputs: dict[str, str]) -> None:
        repository = reference.removeprefix(f"{REGISTRY}/").removesuffix(":latest")
        stored = make_image(layers=[content.encode()], labels={"version": content})
        self.host.registry.push(repository, stored, "latest")
        key = content_key(decode_image_config(stored.blobs[0]))
        self.images[reference] = ImageRead(digest=stored.digest, content=key, inputs=inputs)


class Reports:
    """The host's side of it, over a socket."""

    def __init__(self, folder: Path, world: World, url: str) -> None:
        (folder / "report-token").write_text(HostTokens(KEY).token("web1"))
        world.set(report_to=url, report_token_file=str(folder / "report-token"))
        self.world = world

    async def run(self, *, updates: bool = True) -> None:
        host = self.world.host()
        if updates:
            await update(host, frozenset(), lambda _: None)
        told = reported_containers("root", await survey(host), host.clock.now())
        assert await send_report(self.world.settings, tuple(told), {}) == ""


@asynccontextmanager
async def listening(cloud: Whole) -> AsyncIterator[str]:
    """Serve the web app of a running service on a socket of this machine; give its address."""
    transport = cloud.gitlab.hooks.transport
    assert isinstance(transport, httpx2.ASGITransport)
    server = uvicorn.Server(uvicorn.Config(transport.app, log_config=None, lifespan="off"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            await task


@pytest.fixture(autouse=True)
def nothing_is_said_beside_the_answers() -> Iterator[None]:
    """The service runs in this process, and would write its events between the lines of a command."""
    structlog.configure(processors=[], logger_factory=structlog.ReturnLoggerFactory())
    yield
    structlog.reset_defaults()


async def shown(url: str, capsys: pytest.CaptureFixture[str], *options: str) -> str:
    capsys.readouterr()
    assert await asyncio.to_thread(run, ["status", "--hosts", "--server", url, *options]) == 0
    return capsys.readouterr().out


async def way(url: str, capsys: pytest.CaptureFixture[str], source: str) -> dict[str, Any]:
    answer = json.loads(await shown(url, capsys, "--format=json"))
    found: dict[str, Any] = next(one for one in answer["ways"] if one["source"] == source)
    return found


def test_a_fix_is_followed_from_the_base_to_the_last_container(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = World(tmp_path)
    cloud = Cloud(store_at(tmp_path), world)
    cloud.add("base", "debian:bookworm")
    cloud.add("ruby", "base")
    cloud.add("app", "ruby")
    world.pull("images/app")
    world.run("--name=web", image="images/app")
    world.run("--name=worker", "--label=dev.imagechain.update=false", image="images/app")

    async def main() -> None:
        async with cloud.serving() as service, listening(cloud) as url:
            await ready(service, cloud, 4)
            reports = Reports(tmp_path, world, url)
            assert await shown(url, capsys) == "No host has reported yet (hosts.report_to).\n"
            await reports.run()
            assert "has moved since it was first seen" in await shown(url, capsys)

            cloud.gitlab.push("images/base", {"fix": "text"})
            await until(service, lambda seen: fresh(seen) and len(cloud.built) >= 3)
            assert cloud.built == ["base", "ruby", "app"]
            seen = await way(url, capsys, "images/base")
            assert [(step["source"], step["has"]) for step in seen["images"]] == [
                ("images/ruby", "yes"),
                ("images/app", "yes"),
            ]
            assert seen["images"][0]["built_at"] <= seen["images"][1]["built_at"]
            assert (seen["containers_done"], seen["missing"]) == (0, ["web1/root/web", "web1/root/worker"])

            world.clock.time += 60
            await reports.run()
            assert world.version("web") != world.version("worker")
            seen = await way(url, capsys, "images/base")
            assert (seen["containers_done"], seen["missing"]) == (1, ["web1/root/worker"])
            assert seen["seconds"] is None
            table = await shown(url, capsys)
            assert "web1/root/worker does not run the present" in table
            assert "1/2" in table

            old = world.store.by_name("worker")
            assert old is not None
            del world.store.containers[old.id]
            world.run("--name=worker", image="images/app")
            await reports.run()
            seen = await way(url, capsys, "images/base")
            assert (seen["is_done"], seen["missing"], seen["unknown"]) == (True, [], [])
            assert seen["seconds"] >= 0
            (row,) = [line for line in (await shown(url, capsys)).splitlines() if "images/base" in line]
            assert row.split()[4] == "2/2"
            assert row.split()[5] == "2/2"
            assert row.count("after ") == 2
            page = (await asyncio.to_thread(httpx2.get, f"{url}/metrics")).text
            assert "imagechain_hosts_behind 0.0" in page
            assert "imagechain_hosts_way_seconds" in page

            token = tmp_path / "api-token"
            token.write_text(API_TOKEN)
            forget = ["hosts", "forget", "web1", "--server", url, "--api-token-file", str(token)]
            assert await asyncio.to_thread(run, forget) == 0
            assert await asyncio.to_thread(run, forget) == 2
            assert "no host 'web1' has reported" in capsys.readouterr().err

    asyncio.run(main())


def test_without_a_service_nobody_knows_the_hosts(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["status", "--hosts"]) == 2
    assert "name it with --server URL or --config FILE" in capsys.readouterr().err


def test_the_token_of_a_host_is_made_where_the_service_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "hook-key").write_bytes(KEY)
    file = tmp_path / "imagechain.toml"
    file.write_text('[server]\nhook_key_file = "hook-key"\n')
    assert run(["hosts", "token", "web1", "--config", str(file)]) == 0
    assert HostTokens(KEY).host_of(capsys.readouterr().out.strip()) == "web1"
    assert run(["hosts", "token", "web 1", "--config", str(file)]) == 2
    assert "is no name for a host" in capsys.readouterr().err
