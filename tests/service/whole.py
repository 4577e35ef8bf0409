"""The whole service beside the simulated GitLab, in one process: web app, loop, store, hooks by HTTP."""

import asyncio
import hashlib
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Literal

import httpx2

from imagechain.chain import SourceStatus, status
from imagechain.config import BotSettings, GitLabSettings, PolicySettings, ServerSettings, Settings
from imagechain.gitlab.client import Client
from imagechain.gitlab.hook_secrets import HookSecrets
from imagechain.refs import Platform
from imagechain.service.acting import Ports
from imagechain.service.bots.forge import GitLabBots
from imagechain.service.clock import SystemClock
from imagechain.service.forge import GitLabForge
from imagechain.service.hook_rounds import HookRounds
from imagechain.service.loop import Service, service_settings
from imagechain.service.ports import ImageAbsent, ImageRead, ImageUnchecked
from imagechain.service.upkeep import HookKeeper, wanted_hook
from imagechain.store import Store, open_store
from imagechain.testing import InstanceSettings, Role, SimulatedGitLab
from imagechain.testing.simulated import JobRun
from imagechain.web import Measure, make_app

URL = "http://gitlab.example.com"
SERVICE_URL = "http://imagechain.example.com"
REGISTRY = "registry.example.com"
KEY = b"0123456789abcdef0123456789abcdef"
API_TOKEN = "a-token-for-tests"
PLATFORM = Platform(os="linux", architecture="amd64")
CI = "build:\n  script: [make]\n"


class View(Service):
    """The service as the web app wants to see it."""

    gitlab_down_since: float | None = None

    def measures(self) -> Iterable[Measure]:
        return ()


class Whole:
    """A GitLab with projects that build images, a registry in memory, and what a runner does to it."""

    def __init__(self, store_url: str, **options: Any) -> None:
        self.gitlab = SimulatedGitLab(clock=time.time, seed=1, settings=InstanceSettings(**options))
        self.bot = self.gitlab.add_user("bot", bot=True)
        self.token = self.gitlab.add_token(self.bot).value
        self.gitlab.add_group("images", members={self.bot: Role.OWNER})
        self.images: dict[str, ImageRead] = {}
        self.failing: set[str] = set()
        #: No runner takes a job meanwhile.
        self.is_busy = False
        #: After it was built, no runner takes a job any more.
        self.last = ""
        self.built: list[str] = []
        self.store_url = store_url
        #: Those that are tracked besides the default ones.
        self.branches: tuple[str, ...] = ()
        self.bots = BotSettings()
        self.policy = PolicySettings(retry=())
        self.gitlab.on_job(self._run)
        self.set_image("docker.io/library/debian:bookworm", "debian 1", {})

    # --- the world --------------------------------------------------------------------------------------

    def add(self, name: str, *bases: str, ci: str = CI) -> None:
        """Add a project that is built from others, and has been built."""
        lines = "".join(f"FROM {self.reference(base)}\n" for base in bases)
        self.gitlab.add_project(f"images/{name}", files={"Containerfile": lines, ".gitlab-ci.yml": ci})
        self._publish(name, "first")

    def reference(self, name: str) -> str:
        return name if ":" in name else f"{REGISTRY}/images/{name}"

    def bases(self, name: str, branch: str = "main") -> list[str]:
        project = self.gitlab.project(f"images/{name}")
        commit = project.commits[project.branches[branch]]
        lines = commit.files["Containerfile"].content.decode().splitlines()
        return [_full(word) for _, word in map(str.split, lines)]

    def set_image(self, reference: str, content: str, inputs: dict[str, str]) -> None:
        digest = "sha256:" + hashlib.sha256(f"{content} {inputs}".encode()).hexdigest()
        self.images[reference] = ImageRead(digest=digest, content=content, inputs=inputs)

    def _publish(self, name: str, salt: str, branch: str = "main") -> None:
        inputs = {base: self.images[base].content for base in self.bases(name, branch)}
        content = hashlib.sha256(f"{name} {inputs} {salt}".encode()).hexdigest()
        tag = branch if branch in self.branches else "latest"
        self.set_image(f"{REGISTRY}/images/{name}:{tag}", content, inputs)

    def _run(self, run: JobRun) -> Literal["success", "failed"]:
        name = run.project.path
        if name in self.failing:
            return "failed"
        branch = run.pipeline.ref if run.pipeline.ref in self.branches else run.project.default_branch
        self._publish(name, run.commit.sha, branch or "")
        self.built.append(f"{name}@{branch}" if branch in self.branches else name)
        self.is_busy = name == self.last
        return "success"

    def transport(self) -> httpx2.AsyncBaseTransport:
        """Give the way from the service to GitLab."""
        return self.gitlab.transport()

    async def sleep_before_repeating(self, seconds: float) -> None:
        """Wait as the client does before it repeats a request."""
        await asyncio.sleep(seconds)

    def begin(self, store: Store) -> None:
        """Take note that a service starts."""

    async def read(self, reference: str) -> ImageRead | ImageAbsent | ImageUnchecked:
        return self.images.get(reference, ImageAbsent())

    # --- the service ------------------------------------------------------------------------------------

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[View]:
        """Run the service and the runners, until the end of the block."""
        settings = Settings(
            gitlab=GitLabSettings(url=URL, groups=("images",), branches=self.branches),
            server=ServerSettings(url=SERVICE_URL),
            policy=self.policy,
            bots=self.bots,
        )
        clock = SystemClock()
        store = open_store(self.store_url)
        self.begin(store)
        client = self.client = Client(
            URL, lambda: self.token, transport=self.transport(), sleep=self.sleep_before_repeating
        )
        try:
            async with client:
                forge = GitLabForge(client, settings, store, PLATFORM)
                keeper = HookKeeper(forge, wanted_hook(SERVICE_URL, HookSecrets(KEY)))
                hooks = HookRounds(keeper, store, clock, "1", settings.gitlab.groups)
                ports = Ports(
                    forge=forge,
                    images=self,
                    store=store,
                    clock=clock,
                    hooks=hooks,
                    bots=GitLabBots(client),
                )
                service = View(ports, service_settings(settings))
                app = make_app(store, service, hook_key=KEY, api_token=API_TOKEN)
                self.gitlab.hooks.transport = httpx2.ASGITransport(app=app)
                tasks = [asyncio.create_task(service.run()), asyncio.create_task(self._runners())]
                try:
                    yield service
                finally:
                    for task in tasks:
                        task.cancel()
                        with suppress(asyncio.CancelledError):
                            await task
        finally:
            store.close()

    async def _runners(self) -> None:
        while True:
            if not self.is_busy:
                await self.gitlab.run_jobs()
            await self.gitlab.hooks.deliver()
            await asyncio.sleep(0.01)


async def until(
    service: View, told: Callable[[dict[str, SourceStatus]], bool], seconds: float = 10.0
) -> dict[str, SourceStatus]:
    """Wait until the status is as told."""
    end = time.monotonic() + seconds
    shown: dict[str, SourceStatus] = {}
    while time.monotonic() < end:
        if service.chain is not None:
            shown = {one.id: one for one in status(service.chain)}
            if shown and told(shown):
                return shown
        await asyncio.sleep(0.02)
    raise AssertionError(f"not reached: { {id: (one.state, one.last_build) for id, one in shown.items()} }")


def failure(service: View, source: str) -> str:
    """Say why the last build of a source failed, as far as that counts."""
    assert service.chain is not None
    state = service.chain.facts.states[service.chain.graph.number_of(source)]
    return state.failure.message if state.failure is not None else ""


def _full(reference: str) -> str:
    """Name an image as the registry does."""
    if reference.startswith(REGISTRY):
        return reference if ":" in reference else f"{reference}:latest"
    return f"docker.io/library/{reference}"


def store_at(folder: Path) -> str:
    return f"sqlite:///{folder / 'imagechain.db'}"
