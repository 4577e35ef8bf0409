"""A small world: a GitLab with projects, pipelines and images, faults by seed, and services that are killed.

The world keeps the books that the service cannot see: which pipelines a service started, from what they were
really built, and who was building at that time. It complains at once when a build is started twice or early.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import floor
from random import Random
from typing import Any

import msgspec

from imagechain.chain import Dependency, Graph, Policy, Source
from imagechain.service.acting import Ports
from imagechain.service.hook_rounds import HookRounds
from imagechain.service.loop import Service, ServiceSettings
from imagechain.service.ports import Hook, HookSettings, ImageRead, Pipeline, Scan, TrackedProject
from imagechain.service.upkeep import EVENTS, HookKeeper
from imagechain.store import Hint
from sim.memory_store import MemoryStore
from sim.twins import FakeForge, FakeImages, Guarded, Killed, Life
from sim.virtual import BEGIN, machine_clock

POLICY = Policy(quiet_seconds=20.0, retry_seconds=(0.0, 10.0, 10.0), builds_max=3, starts_per_minute_max=None)
SETTINGS = ServiceSettings(policy=POLICY, reconcile_seconds=120.0, external_seconds=60.0)


HOOK_URL = "https://imagechain.test/hooks/gitlab"


@dataclass
class Faults:
    """How often what goes wrong; all zero is a calm world."""

    #: The service is killed, at any step of it or of a transaction.
    crash: float = 0.0
    #: An answer is lost after the effect; or the effect itself comes later, after the caller gave up.
    unsure: float = 0.0
    late: float = 0.0
    #: 429, or a 5xx that may mean anything.
    busy: float = 0.0
    #: A 5xx about one of many projects.
    partly: float = 0.0
    #: A call takes up to a minute.
    slow: float = 0.0
    #: A registry does not answer.
    image: float = 0.0
    #: A transaction fails, or its answer is lost.
    store: float = 0.0
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


class Gate:
    """A look at a project whose answer is under way until a test lets it come."""

    def __init__(self) -> None:
        self.is_reached = asyncio.Event()
        self.opened = asyncio.Event()

    async def pass_through(self) -> None:
        self.is_reached.set()
        await self.opened.wait()


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
    #: What is wrong with GitLab when it is asked about a project's builds: "its list hangs", ...
    trouble: dict[str, str] = field(default_factory=dict)
    #: By project.
    gates: dict[str, Gate] = field(default_factory=dict)
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
        #: What each image was built from, whoever did it; None: what ended last was no success.
        self.built: dict[str, dict[str, str] | None] = {}
        self.services: list[Service] = []
        self.tasks: set[asyncio.Task[None]] = set()
        self.lists = self.random.choice(["like REST", "like GraphQL"])
        self.crashes = self.calls = self.numbers = self.store_losses = 0
        #: Steps at which to kill.
        self.kill_at: frozenset[int] = frozenset()
        self.complaints: list[str] = []
        #: Projects that left the groups or were archived, and the present paths of the others.
        self.gone: set[str] = set()
        #: Those that ever did: what is declared to be built from one of them is built anew when it is back.
        self.was_gone: set[str] = set()
        #: The default branch of all projects.
        self.branch = "main"
        #: Projects whose repositories are empty.
        self.empty: set[str] = set()
        self.paths = {name: name for name in names}
        #: Projects of which a pipeline is asked for, whether somebody waits for the answer or not.
        self.asked: list[str] = []
        self.hooks: dict[int | str, list[Hook]] = {}
        #: Whether GitLab knows signing tokens (since 19).
        self.signs = True
        #: How wrong the machines' clocks are, besides the skew of each.
        self.ahead_seconds = 0.0
        #: How wrong GitLab's clock is.
        self.gitlab_ahead_seconds = 0.0
        for number in self.graph.order():
            source = self.graph.sources[number]
            self.publish(source.id, self.inputs_now(source.id), "v0")

    # --- what is ----------------------------------------------------------------------------------------

    def now(self) -> float:
        return BEGIN + asyncio.get_running_loop().time()

    def gitlab_now(self) -> float:
        return self.now() + self.gitlab_ahead_seconds

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
        ref = None if source in self.empty else self.branch
        return TrackedProject(source=self.paths[source], project_id=self.project_id[source], ref=ref)

    def scan(self) -> Scan:
        """Show the groups as they are: an image of a project that left is an external one."""
        sources = {
            source.id: source if source.kind == "external" else self._renamed(source)
            for source in self.sources
            if source.id not in self.gone
        }
        dependencies = []
        for one in self.dependencies:
            parent = one.parent
            if one.child in self.gone or (parent in self.gone and one.image is None):
                continue
            if parent in self.gone and one.image is not None:
                parent = one.image
                sources[parent] = Source(id=parent, kind="external", images=(parent,))
            child, parent = self.paths[one.child], self.paths.get(str(parent), parent)
            dependencies.append(msgspec.structs.replace(one, child=child, parent=parent))
        return Scan(
            projects=tuple(self.tracked(name) for name in self.project_id if name not in self.gone),
            sources=tuple(sources.values()),
            dependencies=tuple(dependencies),
        )

    def _renamed(self, source: Source) -> Source:
        return msgspec.structs.replace(source, id=self.paths[source.id])

    def ancestors_of(self, source: str, scan: Scan) -> set[str]:
        """Name the projects and images that a project is built from, as far as a scan showed it."""
        graph = Graph(scan.sources, scan.dependencies)
        names = {project.source: self.name_of[project.project_id] for project in scan.projects}
        return {names.get(path, path) for path in graph.ancestors_of(source)}

    def is_newly_declared(self, source: str) -> bool:
        """Tell whether a project may have found a declared dependency that it was not built from."""
        return any(
            one.child == source and one.image is None and one.parent in self.was_gone
            for one in self.dependencies
        )

    def number(self) -> int:
        """Give a number that was not given before."""
        self.numbers += 1
        return self.numbers

    @contextlib.contextmanager
    def asked_for(self, source: str) -> Iterator[None]:
        self.asked.append(source)
        try:
            yield
        finally:
            self.asked.remove(source)

    # --- pipelines --------------------------------------------------------------------------------------

    def start(self, source: str, by: str, *, seconds: float | None = None, outcome: str | None = None) -> Job:
        """Start a pipeline, whoever wants it."""
        fails = source in self.broken or self.random.random() < self.faults.build
        number = len(self.jobs) + 1
        at = self.gitlab_now()
        pipeline = Pipeline(
            id=number,
            project_id=self.project_id[source],
            ref=self.branch,
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
        if job.pipeline.source != "merge_request_event":
            self.built[job.source] = job.inputs if job.outcome == "success" else None
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
            updated_at=self.gitlab_now(),
            finished_at=self.gitlab_now() if status in ends else None,
        )

    # --- hooks ------------------------------------------------------------------------------------------

    def announce(self, job: Job) -> None:
        """Send a webhook, perhaps: at most once, late, out of order; or twice by two hooks."""
        times = 1 + (self.random.random() < self.faults.hook_doubled)
        if not self.hooks.get(job.pipeline.project_id) or self.random.random() < self.faults.hook_lost:
            return
        for _ in range(times):
            delay = self.random.expovariate(1 / self.faults.hook_delay) if self.faults.hook_delay else 0.0
            hint = Hint(kind="pipeline", project_id=job.pipeline.project_id, pipeline_id=job.pipeline.id)
            asyncio.get_running_loop().call_later(delay + 0.01, self._deliver, hint, str(self.number()))

    def _deliver(self, hint: Hint, key: str) -> None:
        task = asyncio.ensure_future(self.store.add_hint(hint, key, self.now()))
        task.add_done_callback(self._wake)

    def _wake(self, _: object) -> None:
        for service in self.services:
            service.wake()

    # --- services ---------------------------------------------------------------------------------------

    def launch(self, settings: ServiceSettings = SETTINGS) -> Service:
        """Start a replica; it may be killed, and comes back after a while."""
        life = Life(self)
        skew = self.random.uniform(-1, 1) * self.faults.skew
        clock = machine_clock(lambda: skew + self.ahead_seconds)
        settings = msgspec.structs.replace(settings, policy=self.policy)
        forge, store = FakeForge(self, life, clock), Guarded(self.store, life)
        ports = Ports(
            forge=forge,
            images=FakeImages(self, life),
            store=store,
            clock=clock,
            hooks=HookRounds(HookKeeper(forge, _hook_settings), store, clock, "key 1"),
        )
        service = Service(ports, settings)
        task = asyncio.ensure_future(self._live(service))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)
        self.services.append(service)
        return service

    async def _live(self, service: Service) -> None:
        try:
            await service.run()
        except* Killed:
            self.crashes += 1
        finally:
            self.services = [one for one in self.services if one is not service]
        await asyncio.sleep(self.random.uniform(0, 20))
        self.launch()

    async def stop(self) -> None:
        """Stop all services, also those that were killed and would come back."""
        for task in list(self.tasks):
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    @property
    def leader(self) -> Service:
        return next(service for service in self.services if service._acting is not None)


def _hook_settings(_: int | str) -> HookSettings:
    return HookSettings(url=HOOK_URL, events=EVENTS, token="a token", signing_token="whsec_a")
