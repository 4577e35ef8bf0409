"""A small world: a GitLab with projects, pipelines and images, faults by seed, and services that are killed.

The world keeps the books that the service cannot see: which pipelines a service started, from what they were
really built, and who was building at that time. It complains at once when a build is started twice or early.
"""

# ruff: noqa: ARG002 - a twin takes what the protocol gives

import asyncio
import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import floor
from random import Random
from typing import Any

import msgspec

from imagechain.chain import Dependency, Graph, Policy, Source
from imagechain.service.loop import Ports, Service, ServiceSettings
from imagechain.service.ports import (
    Hook,
    HookSettings,
    ImageAbsent,
    ImageRead,
    ImageUnchecked,
    NotNowError,
    Pipeline,
    RefusedError,
    RetryableError,
    Scan,
    TrackedProject,
)
from imagechain.store import Hint
from sim.memory_store import MemoryStore
from sim.virtual import BEGIN, VirtualClock

POLICY = Policy(quiet_seconds=20.0, retry_seconds=(0.0, 10.0, 10.0), builds_max=3, starts_per_minute_max=None)
SETTINGS = ServiceSettings(policy=POLICY, reconcile_seconds=120.0, external_seconds=60.0)


class Killed(BaseException):
    """kill -9."""


@dataclass
class Faults:
    """How often what goes wrong; all zero is a calm world."""

    crash: float = 0.0
    unsure: float = 0.0
    busy: float = 0.0
    image: float = 0.0
    hook_lost: float = 0.0
    hook_doubled: float = 0.0
    hook_delay: float = 0.0
    build: float = 0.0
    skew: float = 0.0


@dataclass
class Job:
    """What the world knows about a pipeline, besides what it shows."""

    pipeline: Pipeline
    source: str
    inputs: dict[str, str]
    by_service: bool
    outcome: str
    attempts: int = 1


@dataclass
class World:
    sources: list[Source]
    dependencies: list[Dependency]
    random: Random
    faults: Faults = field(default_factory=Faults)
    #: Projects whose builds always fail, whose content never changes, whose images have no label.
    broken: frozenset[str] = frozenset()
    constant: frozenset[str] = frozenset()
    unlabelled: frozenset[str] = frozenset()
    #: What GitLab says when a pipeline of a project is asked for.
    refusals: dict[str, str] = field(default_factory=dict)
    policy: Policy = POLICY
    store: Any = field(default_factory=MemoryStore)

    def __post_init__(self) -> None:
        self.graph = Graph(self.sources, self.dependencies)
        names = [source.id for source in self.sources if source.kind == "project"]
        self.project_id = {name: number for number, name in enumerate(names, 1)}
        self.name_of = {number: name for name, number in self.project_id.items()}
        self.images: dict[str, ImageRead] = {}
        self.versions: dict[str, str] = {}
        self.jobs: dict[int, Job] = {}
        self.services: list[tuple[Service, asyncio.Task[None]]] = []
        self.lists = self.random.choice(["like REST", "like GraphQL"])
        self.crashes = self.calls = self.hints = 0
        self.complaints: list[str] = []
        for number in self.graph.order():
            source = self.graph.sources[number]
            self.publish(source.id, self.inputs_now(source.id), "v0")

    # --- what is ----------------------------------------------------------------------------------------

    def now(self) -> float:
        return BEGIN + asyncio.get_running_loop().time()

    def inputs_now(self, source: str) -> dict[str, str]:
        names = (name for name in self.graph.inputs_of(source) if not name.startswith("files:"))
        return {name: self.versions[name] for name in names}

    def publish(self, source: str, inputs: Mapping[str, str], content: str) -> None:
        """Push the images of a source."""
        number = self.graph.number[source]
        label = None if source in self.unlabelled or self.graph.sources[number].kind == "external" else inputs
        for key in self.graph.outputs[number]:
            name = self.graph.input_names[key]
            self.versions[name] = content
            digest = "sha256:" + hashlib.sha256(f"{name} {content} {label}".encode()).hexdigest()
            self.images[name] = ImageRead(digest=digest, content=content, inputs=label)

    def move(self, reference: str, content: str) -> None:
        """Give an external image new content."""
        self.publish(reference, {}, content)

    def running(self) -> list[Job]:
        return [job for job in self.jobs.values() if job.pipeline.status == "running"]

    def listed(self, pipeline: Pipeline) -> Pipeline:
        """Show a pipeline as lists do: without its end, or in whole seconds."""
        end = pipeline.finished_at
        if self.lists == "like REST":
            return msgspec.structs.replace(
                pipeline, finished_at=None, updated_at=pipeline.updated_at + 0.003 * (end is not None)
            )
        return msgspec.structs.replace(
            pipeline,
            created_at=floor(pipeline.created_at),
            updated_at=floor(pipeline.updated_at),
            finished_at=None if end is None else floor(end),
        )

    def tracked(self, source: str) -> TrackedProject:
        return TrackedProject(source=source, project_id=self.project_id[source], ref="main")

    # --- pipelines --------------------------------------------------------------------------------------

    def start(self, source: str, by: str, *, seconds: float | None = None, outcome: str | None = None) -> Job:
        """Start a pipeline, whoever wants it."""
        fails = source in self.broken or self.random.random() < self.faults.build
        number = len(self.jobs) + 1
        at = self.now()
        pipeline = Pipeline(
            id=number,
            project_id=self.project_id[source],
            ref="main",
            sha=f"{number:040x}",
            source=by,
            status="running",
            created_at=at,
            updated_at=at,
            url=f"https://gitlab.test/{source}/-/pipelines/{number}",
        )
        job = Job(
            pipeline,
            source,
            self.inputs_now(source),
            by == "api",
            outcome or ("failed" if fails else "success"),
        )
        self.jobs[number] = job
        self._run(job, seconds)
        return job

    def retry(self, job: Job) -> None:
        """Press the button in GitLab: the same pipeline runs again."""
        job.attempts += 1
        job.outcome = "success"
        job.inputs = self.inputs_now(job.source)
        self._show(job, "running")
        self._run(job, None)

    def _run(self, job: Job, seconds: float | None) -> None:
        self.announce(job)
        lasts = self.random.uniform(2, 40) if seconds is None else seconds
        asyncio.get_running_loop().call_later(lasts, self._end, job)

    def _end(self, job: Job) -> None:
        if job.pipeline.status != "running":
            return
        if job.outcome == "success" and job.pipeline.source != "merge_request_event":
            content = hashlib.sha256(f"{job.source} {sorted(job.inputs.items())}".encode()).hexdigest()
            self.publish(job.source, job.inputs, "v0" if job.source in self.constant else content)
        self._show(job, job.outcome)
        self.announce(job)

    def cancel(self, job: Job) -> None:
        if job.pipeline.status == "running":
            self._show(job, "canceled")
            self.announce(job)

    def _show(self, job: Job, status: str) -> None:
        ends = {"success", "failed", "canceled"}
        job.pipeline = msgspec.structs.replace(
            job.pipeline,
            status=status,
            updated_at=self.now(),
            finished_at=self.now() if status in ends else None,
        )

    # --- hooks ------------------------------------------------------------------------------------------

    def announce(self, job: Job) -> None:
        """Send a webhook, perhaps: at most once, late, out of order; or twice by two hooks."""
        times = 1 + (self.random.random() < self.faults.hook_doubled)
        if self.random.random() < self.faults.hook_lost:
            return
        for _ in range(times):
            delay = self.random.expovariate(1 / self.faults.hook_delay) if self.faults.hook_delay else 0.0
            self.hints += 1
            hint = Hint(kind="pipeline", project_id=job.pipeline.project_id, pipeline_id=job.pipeline.id)
            asyncio.get_running_loop().call_later(delay + 0.01, self._deliver, hint, str(self.hints))

    def _deliver(self, hint: Hint, key: str) -> None:
        task = asyncio.ensure_future(self.store.add_hint(hint, key, self.now()))
        task.add_done_callback(self._wake)

    def _wake(self, _: object) -> None:
        for service, _task in self.services:
            service.wake()

    # --- services ---------------------------------------------------------------------------------------

    def launch(self, settings: ServiceSettings = SETTINGS) -> Service:
        """Start a replica; it may be killed, and comes back after a while."""
        life = Life(self)
        clock = VirtualClock(self.random.uniform(-1, 1) * self.faults.skew)
        settings = msgspec.structs.replace(settings, policy=self.policy)
        ports = Ports(
            forge=FakeForge(self, life),
            images=FakeImages(self, life),
            store=Guarded(self.store, life),
            clock=clock,
        )
        service = Service(ports, settings)
        task = asyncio.ensure_future(self._live(service, life))
        life.task = task
        self.services.append((service, task))
        return service

    async def _live(self, service: Service, life: "Life") -> None:
        try:
            await service.run()
        except* Killed:
            self.crashes += 1
        finally:
            self.services = [one for one in self.services if one[0] is not service]
        await asyncio.sleep(self.random.uniform(0, 20))
        self.launch()

    async def stop(self) -> None:
        for _, task in list(self.services):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    @property
    def leader(self) -> Service:
        return next(service for service, _ in self.services if service._acting is not None)


class Life:
    """One life of a service: when it is over, nothing that it does has an effect."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.is_over = False
        self.task: asyncio.Task[None] | None = None

    def step(self) -> None:
        """A place to be killed at."""
        self.world.calls += 1
        if self.is_over:
            raise Killed
        if self.world.random.random() < self.world.faults.crash:
            self.is_over = True
            raise Killed

    async def call(self, seconds: float = 0.02) -> None:
        """Before a call to somewhere else: it takes time, and may fail before anything has happened."""
        self.step()
        await asyncio.sleep(self.world.random.uniform(0, seconds))
        self.step()
        if self.world.random.random() < self.world.faults.busy:
            raise NotNowError(
                "429 Too Many Requests", retry_after_seconds=self.world.random.choice([None, 3.0])
            )

    def answer(self) -> None:
        """After a call: its answer may be lost."""
        self.step()
        if self.world.random.random() < self.world.faults.unsure:
            raise RetryableError("the connection was lost")


class Guarded:
    """A store that may be the last thing that a service has seen."""

    def __init__(self, store: Any, life: Life) -> None:
        self._store = store
        self._life = life

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        async def call(*arguments: Any) -> Any:
            self._life.step()
            result = await method(*arguments)
            self._life.step()
            return result

        return call


class FakeImages:
    def __init__(self, world: World, life: Life) -> None:
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

    def __init__(self, world: World, life: Life) -> None:
        self._world = world
        self._life = life

    async def scan(self) -> Scan:
        await self._life.call()
        world = self._world
        return Scan(
            projects=tuple(world.tracked(one.id) for one in world.sources if one.kind == "project"),
            sources=tuple(world.sources),
            dependencies=tuple(world.dependencies),
        )

    def _shown(self, projects: Sequence[TrackedProject]) -> list[Pipeline]:
        wanted = {project.project_id for project in projects}
        shown = [job.pipeline for job in self._world.jobs.values() if job.pipeline.project_id in wanted]
        self._world.random.shuffle(shown)
        return [self._world.listed(one) for one in shown]

    async def latest_pipelines(self, projects: Sequence[TrackedProject]) -> Sequence[Pipeline]:
        await self._life.call()
        return self._shown(projects)

    async def pipelines_since(
        self, projects: Sequence[TrackedProject], updated_after: float
    ) -> Sequence[Pipeline]:
        await self._life.call()
        return [one for one in self._shown(projects) if one.updated_at > updated_after]

    async def pipeline(self, project_id: int, pipeline_id: int) -> Pipeline | None:
        await self._life.call()
        job = self._world.jobs.get(pipeline_id)
        return job.pipeline if job is not None else None

    async def pipelines_after(self, project: TrackedProject, pipeline_id: int) -> Sequence[Pipeline]:
        await self._life.call()
        return [one for one in self._shown([project]) if one.id > pipeline_id]

    async def create_pipeline(self, project: TrackedProject, told: Mapping[str, str]) -> Pipeline:
        await self._life.call(2.0)
        world = self._world
        if project.source in world.refusals:
            raise RefusedError(world.refusals[project.source])
        self._check(project.source)
        job = world.start(project.source, "api")
        self._life.answer()
        return job.pipeline

    def _check(self, source: str) -> None:
        """No build twice, none early, as far as what the service started itself can tell."""
        world = self._world
        ours = [job for job in world.jobs.values() if job.by_service]
        building = {job.source for job in ours if job.pipeline.status == "running"}
        if source in building:
            world.complaints.append(f"{source} is started while it builds")
        early = building & world.graph.ancestors_of(source)
        if early and not world.graph.cycles:
            world.complaints.append(f"{source} is started while {sorted(early)} build")
        inputs = world.inputs_now(source)
        done = [job for job in ours if job.source == source and job.pipeline.status == "success"]
        if done and done[-1].inputs == inputs and source not in world.unlabelled and not world.faults.build:
            world.complaints.append(f"{source} is built from the same again")

    async def hooks(self, owner: int | str) -> Sequence[Hook]:
        return ()

    async def create_hook(self, owner: int | str, settings: HookSettings) -> None: ...

    async def update_hook(self, owner: int | str, hook_id: int, settings: HookSettings) -> None: ...

    async def delete_hook(self, owner: int | str, hook_id: int) -> None: ...

    async def test_hook(self, project_id: int, hook_id: int, event: str) -> None: ...
