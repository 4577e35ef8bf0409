"""What a simulated service sees of the world: GitLab, registries and a store that fail, each call a step.

A life is over at any step: then nothing that it does has an effect any more, as after kill -9.
"""

# ruff: noqa: ARG002 - a twin takes what the protocol gives

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from math import floor
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from imagechain.service.ports import (
    Clock,
    Hook,
    HookSettings,
    ImageAbsent,
    ImageRead,
    ImageUnchecked,
    NotNowError,
    Pipeline,
    PipelinesFound,
    RefusedError,
    RetryableError,
    Scan,
    TrackedProject,
)
from imagechain.service.starts import LOOK_SECONDS_MAX
from imagechain.store import Lease, StoreBusyError

if TYPE_CHECKING:
    from sim.world import World

#: GitLab gives a request up after so long; the service gives up waiting before.
LATE_SECONDS_MAX = 60.0
WAIT_SECONDS_MAX = 10.0


class Killed(BaseException):
    """kill -9."""


class Life:
    """One life of a service: when it is over, nothing that it does has an effect."""

    def __init__(self, world: "World") -> None:
        self.world = world
        self.is_over = False

    def step(self) -> None:
        """A place to be killed at."""
        if self.is_over:
            raise Killed
        self.world.calls += 1
        if self.world.calls in self.world.kill_at or self.world.random.random() < self.world.faults.crash:
            self.is_over = True
            raise Killed

    async def call(self, seconds: float | None = None) -> float:
        """Before a call to somewhere else: it takes time, and may fail before anything has happened.

        Gives the seconds that the answer takes: what was read may be old when it comes.
        """
        random, faults = self.world.random, self.world.faults
        self.step()
        usual = LATE_SECONDS_MAX if random.random() < faults.slow else 0.02
        way_seconds = random.uniform(0, usual if seconds is None else seconds)
        answer_seconds = random.uniform(0, way_seconds) if seconds is None else 0.0
        await asyncio.sleep(way_seconds - answer_seconds)
        self.step()
        if random.random() < faults.busy:
            raise random.choice(
                [
                    NotNowError("429 Too Many Requests"),
                    NotNowError("429 Too Many Requests", retry_after_seconds=3.0),
                    RetryableError("502 Bad Gateway"),
                ]
            )
        return answer_seconds

    def answer(self) -> None:
        """After a call: its answer may be lost."""
        self.step()
        if self.world.random.random() < self.world.faults.unsure:
            raise RetryableError("the connection was lost")


class Guarded:
    """A store that may be the last thing that a service has seen, also in the middle of a transaction."""

    def __init__(self, store: Any, life: Life) -> None:
        self._store = store
        self._life = life

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        async def call(*arguments: Any) -> Any:
            self._step()
            self._store.step = self._life.step
            try:
                result = await method(*arguments)
            finally:
                self._store.step = _go_on
            self._step()
            return result

        return call

    async def take_lease(self, owner: str, seconds: float, now: float) -> Lease | None:
        """Take the lease by the clock of the database; its end is told by the clock of who asks."""
        lease = await self.__getattr__("take_lease")(owner, seconds, self._life.world.now())
        return None if lease is None else msgspec.structs.replace(lease, expires_at=now + seconds)

    def _step(self) -> None:
        self._life.step()
        if self._life.world.random.random() < self._life.world.faults.store:
            raise StoreBusyError("the connection to the database was lost")


def _go_on() -> None:
    """Nobody is killed."""


class FakeImages:
    def __init__(self, world: "World", life: Life) -> None:
        self._world = world
        self._life = life

    async def read(self, reference: str) -> ImageRead | ImageAbsent | ImageUnchecked:
        self._life.step()
        await asyncio.sleep(0.001)
        self._life.step()
        if self._world.random.random() < self._world.faults.image:
            return ImageUnchecked("the registry is down")
        return self._world.images.get(reference, ImageAbsent())


class FakeForge:
    """GitLab, as the service sees it."""

    def __init__(self, world: "World", life: Life, clock: Clock) -> None:
        self._world = world
        self._life = life
        self._clock = clock
        #: How far GitLab's clock is ahead of the service's, as far as the seconds that it tells prove it.
        self._ahead_seconds = 0.0
        #: What the service knows of the groups; the world may have gone on.
        self._scanned = world.scan()

    async def scan(self) -> Scan:
        answer_seconds = await self._life.call()
        self._scanned = self._world.scan()
        await asyncio.sleep(answer_seconds)
        return self._scanned

    def _shown(self, projects: Sequence[TrackedProject]) -> list[Pipeline]:
        wanted = {project.project_id for project in projects}
        shown = [job.pipeline for job in self._world.jobs.values() if job.pipeline.project_id in wanted]
        self._world.random.shuffle(shown)
        return [self._told(self._world.listed(one)) for one in shown]

    def _told(self, pipeline: Pipeline) -> Pipeline:
        least = floor(self._world.gitlab_now()) - self._clock.now()
        self._ahead_seconds = min(max(self._ahead_seconds, least), least + 1.0)
        return msgspec.structs.replace(pipeline, ahead_seconds=self._ahead_seconds)

    async def latest_pipelines(self, projects: Sequence[TrackedProject]) -> PipelinesFound:
        answer_seconds = await self._life.call()
        found = self._found(self._shown(projects))
        await asyncio.sleep(answer_seconds)
        return found

    async def pipelines_since(
        self, projects: Sequence[TrackedProject], updated_after: float
    ) -> PipelinesFound:
        answer_seconds = await self._life.call()
        if updated_after > self._world.gitlab_now():
            updated_after = 0.0
        found = self._found([one for one in self._shown(projects) if one.updated_at > updated_after])
        await asyncio.sleep(answer_seconds)
        return found

    def _found(self, shown: Sequence[Pipeline]) -> PipelinesFound:
        """Fail on some of the projects."""
        random, faults = self._world.random, self._world.faults
        numbers = sorted({one.project_id for one in shown}) if faults.partly else []
        failed = frozenset(number for number in numbers if random.random() < faults.partly)
        return PipelinesFound([one for one in shown if one.project_id not in failed], failed)

    async def pipeline(self, project_id: int, pipeline_id: int) -> Pipeline | None:
        answer_seconds = await self._life.call()
        job = self._world.jobs.get(pipeline_id)
        found = self._told(job.pipeline) if job is not None else None
        await asyncio.sleep(answer_seconds)
        return found

    async def pipelines_after(self, project: TrackedProject, pipeline_id: int) -> Sequence[Pipeline]:
        trouble = self._world.trouble.get(project.source)
        answer_seconds = await self._life.call()
        if trouble == "its list hangs":
            await asyncio.sleep(LOOK_SECONDS_MAX)
        if trouble in {"its list hangs", "its list fails"}:
            raise RetryableError("500 Internal Server Error")
        found = [one for one in self._shown([project]) if one.id > pipeline_id]
        if project.source in self._world.gates:
            await self._world.gates[project.source].pass_through()
        await asyncio.sleep(answer_seconds)
        if self._world.name_of[project.project_id] in self._world.gone:
            raise RefusedError("404 Project Not Found")
        return found

    async def create_pipeline(self, project: TrackedProject, told: Mapping[str, str]) -> Pipeline:
        world = self._world
        source = world.name_of[project.project_id]
        if source in world.refusals or source in world.gone:
            await self._life.call(2.0)
            raise RefusedError(world.refusals.get(source, "403 Forbidden: it is archived"))
        if project.ref != world.branch:
            await self._life.call()
            raise RefusedError("400 Reference not found")
        if world.trouble.get(project.source) == "its start fails":
            await self._life.call()
            raise RetryableError("502 Bad Gateway")
        self._check(project)
        with world.asked_for(source):
            await self._life.call(WAIT_SECONDS_MAX)
            if world.random.random() >= world.faults.late:
                job = world.start(source, "api")
                self._life.answer()
                return self._told(job.pipeline)
        return await self._give_up(source)

    async def _give_up(self, source: str) -> NoReturn:
        """Wait for an answer in vain; what was asked for happens all the same, later."""
        world = self._world
        happening = contextlib.ExitStack()
        happening.enter_context(world.asked_for(source))
        happening.callback(world.start, source, "api")
        asyncio.get_running_loop().call_later(world.random.uniform(0, LATE_SECONDS_MAX), happening.close)
        await asyncio.sleep(world.random.uniform(0, WAIT_SECONDS_MAX))
        self._life.step()
        raise RetryableError("GitLab did not answer in time")

    def _check(self, project: TrackedProject) -> None:
        """No build twice, none early, as far as what the service started itself can tell."""
        world = self._world
        source = world.name_of[project.project_id]
        ours = [job for job in world.jobs.values() if job.by_service]
        building = {job.source for job in ours if job.pipeline.status == "running"} | set(world.asked)
        if source in building:
            world.complaints.append(f"{source} is started while it builds")
        early = building & world.ancestors_of(project.source, self._scanned)
        if early and not world.graph.cycles:
            world.complaints.append(f"{source} is started while {sorted(early)} build")
        # After the store was lost, a build may be unknown for as long as its registry does not answer.
        if len(building - world.was_gone) >= world.policy.builds_max and not world.store_losses:
            world.complaints.append(f"{source} is started while as many build as may")
        inputs = world.inputs_now(source)
        done = [job for job in ours if job.source == source and job.pipeline.status == "success"]
        is_known = source not in world.unlabelled and not world.is_newly_declared(source)
        ours_last = done[-1].inputs if done else None
        if inputs in (ours_last, world.built.get(source)) and is_known and not world.faults.build:
            world.complaints.append(f"{source} is built from the same again")

    # --- hooks ------------------------------------------------------------------------------------------

    async def hooks(self, owner: int | str) -> Sequence[Hook]:
        await self._life.call()
        return [self._shown_hook(hook) for hook in self._world.hooks.get(owner, ())]

    def _shown_hook(self, hook: Hook) -> Hook:
        return hook if self._world.signs else msgspec.structs.replace(hook, has_signing_token=None)

    async def create_hook(self, owner: int | str, settings: HookSettings) -> None:
        await self._life.call()
        self._world.hooks.setdefault(owner, []).append(self._made(self._world.number(), settings))
        self._life.answer()

    async def update_hook(self, owner: int | str, hook_id: int, settings: HookSettings) -> None:
        await self._life.call()
        hooks = self._world.hooks[owner]
        hooks[:] = [self._made(hook_id, settings) if hook.id == hook_id else hook for hook in hooks]
        self._life.answer()

    def _made(self, hook_id: int, settings: HookSettings) -> Hook:
        # An instance before GitLab 19 ignores signing tokens.
        return Hook(id=hook_id, url=settings.url, events=settings.events, has_signing_token=self._world.signs)

    async def delete_hook(self, owner: int | str, hook_id: int) -> None:
        await self._life.call()
        hooks = self._world.hooks.get(owner, [])
        hooks[:] = [hook for hook in hooks if hook.id != hook_id]
        self._life.answer()

    async def test_hook(self, project_id: int, hook_id: int, event: str) -> None: ...
