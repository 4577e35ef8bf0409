"""Two replicas on one PostgreSQL: programs of their own, of which the one that acts is killed."""

import asyncio
import signal
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx2

from imagechain.service.loop import LEASE_SECONDS
from imagechain.testing import InstanceSettings, Role, SimulatedGitLab
from imagechain.testing.server import serving_here
from imagechain.testing.simulated import JobRun
from imagechain.testing.values import Status
from registry.pictures import make_image
from registry.servers import Server, run_registry
from service.program import free_port, service, write_settings
from store.postgresql import Server as Database

CHAIN = {"base": (), "left": ("base",), "right": ("base",), "app": ("left", "right")}


class Group:
    """A GitLab and a registry with a diamond of projects, and a runner."""

    def __init__(self, registry: Server) -> None:
        self.registry = registry
        settings = InstanceSettings(registry_host=registry.address, enterprise=False)
        self.gitlab = SimulatedGitLab(clock=time.time, seed=1, settings=settings)
        bot = self.gitlab.add_user("bot", bot=True)
        self.token = self.gitlab.add_token(bot).value
        self.gitlab.add_group("images", members={bot: Role.OWNER})
        self.built: list[str] = []
        self.layers: dict[str, tuple[bytes, ...]] = {}
        #: Done while the job of a project runs.
        self.meanwhile: dict[str, Callable[[], None]] = {}
        for name, bases in CHAIN.items():
            first, *more = [f"{registry.address}/images/{base}" for base in bases] or ["scratch"]
            lines = [f"FROM {first}", *(f"COPY --from={one} /a /a" for one in more)]
            files = {"Containerfile": "\n".join(lines), ".gitlab-ci.yml": "build: {script: [make]}\n"}
            self.gitlab.add_project(f"images/{name}", files=files)
            self._publish(name, "first")
        self.gitlab.on_job(self._run)

    def _publish(self, name: str, text: str) -> None:
        on = [self.layers[base] for base in CHAIN[name]] or [()]
        self.layers[name] = (*on[0], f"{name} {text}".encode())
        self.registry.push(f"images/{name}", make_image(layers=self.layers[name]), "latest")

    async def _run(self, run: JobRun) -> Status:
        name = run.project.path
        # Some of GitLab's times are whole seconds; and by then it is known that all have started.
        await asyncio.sleep(1.5)
        self.meanwhile.get(name, lambda: None)()
        self._publish(name, str(run.pipeline.id))
        self.built.append(name)
        return "success"


async def told(port: int, what: str) -> Any:
    """Ask a replica what it knows."""
    async with httpx2.AsyncClient(trust_env=False) as client:
        return (await client.get(f"http://127.0.0.1:{port}/api/v1/{what}")).json()


async def until(is_so: Callable[[], bool], seconds: float) -> None:
    async with asyncio.timeout(seconds):
        while not is_so():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)


def test_when_the_replica_that_acts_is_killed_the_other_goes_on_and_builds_each_image_once(
    tmp_path: Path, postgresql: Database
) -> None:
    async def main(registry: Server, store_url: str) -> None:
        group = Group(registry)
        first, second = free_port(), free_port()
        async with AsyncExitStack() as stack:
            url = await stack.enter_async_context(serving_here(group.gitlab))
            processes = []
            for port in (first, second):
                (tmp_path / str(port)).mkdir()
                config = write_settings(
                    tmp_path / str(port),
                    url,
                    group.token,
                    port,
                    registry=registry.address,
                    store_url=store_url,
                    # As a balancer would: to the one that lives.
                    hooks_port=second,
                )
                replica = service(config, port)
                processes.append(await asyncio.to_thread(replica.__enter__))
                stack.callback(replica.__exit__, None, None, None)
                await until(lambda: len(group.gitlab.state.hooks) == len(CHAIN), 20.0)
            assert (await told(first, "status"))["notices"] == []
            assert "another replica acts" in (await told(second, "status"))["notices"][0]
            group.meanwhile["left"] = processes[0].kill
            live = asyncio.create_task(group.gitlab.live())
            stack.callback(live.cancel)
            group.gitlab.push("images/base", {"more": "text"})
            await until(lambda: len(group.built) >= len(CHAIN), 3 * LEASE_SECONDS)
            # If anything were built again, it would be by then.
            await asyncio.sleep(5)
            assert processes[0].poll() == -signal.SIGKILL
            assert (group.built[0], set(group.built[1:3]), group.built[3:]) == (
                "base",
                {"left", "right"},
                ["app"],
            )
            known = await told(second, "status")
            assert {one["state"] for one in known["sources"]} == {"fresh"}
            assert known["notices"] == []
            builds = (await told(second, "builds"))["builds"]
            assert [(one["id"], one["status"]) for one in builds] == [
                (str(number), "success") for number in (4, 3, 2, 1)
            ]

    (tmp_path / "registry").mkdir()
    with run_registry(tmp_path / "registry") as registry:
        asyncio.run(main(registry, postgresql.database()))
