"""Errands over lost answers and crashes: each pipeline is started once, whatever happens in between."""

# ruff: noqa: ARG002 - a twin takes what the protocol gives

import asyncio
from collections.abc import Mapping, Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from imagechain.chain import Dependency, Policy, Source
from imagechain.config import BotSettings, DeploymentSettings
from imagechain.service.bots.errands import Errands
from imagechain.service.bots.ports import FoundDeployment, FoundMergeRequest, FoundNote, StartedProject
from imagechain.service.knowledge import Knowledge
from imagechain.service.ports import (
    ImageAbsent,
    ImageRead,
    NotNowError,
    Pipeline,
    RetryableError,
    Scan,
    TrackedProject,
    TrialBy,
)
from imagechain.service.starts import UNSURE_SECONDS
from imagechain.store import Lease
from sim.memory_store import MemoryStore

BOT, PERSON = 1, 2
NAMES = ("base", "left", "right", "app")
EDGES = (("left", "base"), ("right", "base"), ("app", "left"), ("app", "right"))


class KilledError(Exception):
    """The process ends here."""


class World:
    """GitLab, registries and a clock, with troubles that a script names by the number of the call."""

    def __init__(self, troubles: Mapping[int, str], by: TrialBy) -> None:
        self.troubles = troubles
        self.by = by
        self.calls = 0
        self.time = 1_000.0
        self.pipelines: dict[int, tuple[Pipeline, Mapping[str, str]]] = {}
        self.comments: dict[int, str] = {}
        self.told: list[str] = []

    # --- troubles

    def meet(self, moment: str) -> None:
        """Meet the trouble of this moment of a call, if there is one."""
        trouble = self.troubles.get(self.calls, "")
        if trouble == f"kill {moment}":
            self.calls += 1
            raise KilledError
        if trouble == f"fail {moment}":
            self.calls += 1
            raise RetryableError("no answer")
        if moment == "after":
            self.calls += 1

    # --- the clock and the registries

    def now(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds

    async def read(self, reference: str) -> ImageRead | ImageAbsent:
        return ImageRead(digest="sha256:" + "1" * 64, content=reference)

    # --- GitLab

    async def me(self) -> tuple[int, str]:
        return BOT, "bot"

    async def note(self, project_id: int, merge_request: int, note_id: int) -> FoundNote | None:
        return FoundNote(id=note_id, body="@bot test", author_id=PERSON, is_system=False, is_internal=False)

    async def notes(self, project_id: int, merge_request: int) -> Sequence[FoundNote]:
        return [
            FoundNote(id=id, body=body, author_id=BOT, is_system=False, is_internal=False)
            for id, body in self.comments.items()
        ]

    async def write_note(self, project_id: int, merge_request: int, body: str, note_id: int | None) -> int:
        self.meet("before")
        note_id = note_id if note_id is not None else 100 + len(self.comments)
        self.comments[note_id] = body
        self.meet("after")
        return note_id

    async def merge_request(self, project_id: int, iid: int) -> FoundMergeRequest | None:
        return FoundMergeRequest(iid=iid, state="opened", source_project_id=project_id, head_pipeline=7)

    async def is_developer(self, project_id: int, user_id: int) -> bool:
        return user_id == PERSON

    async def deployment(self, project_id: int, deployment_id: int) -> FoundDeployment | None:
        return FoundDeployment(
            id=deployment_id,
            project_id=project_id,
            environment="production",
            status="success",
            ref="main",
            sha="c",
        )

    async def project(self, path: str) -> StartedProject | None:
        return StartedProject(id=9, default_branch="main")

    async def largest_pipeline(self, project_id: int) -> int:
        return max((id for id, (one, _) in self.pipelines.items() if one.project_id == project_id), default=0)

    async def start(
        self, project_id: int, ref: str, *, inputs: Mapping[str, str], variables: Mapping[str, str]
    ) -> Pipeline:
        if self.troubles.get(self.calls) == "refuse":
            self.calls += 1
            raise NotNowError("too many")
        self.meet("before")
        pipeline = Pipeline(
            id=len(self.pipelines) + 1,
            project_id=project_id,
            ref=ref,
            sha="c",
            source="api",
            status="success",
            created_at=self.time,
            updated_at=self.time,
        )
        self.pipelines[pipeline.id] = (pipeline, variables)
        self.meet("after")
        return pipeline

    async def started_with(
        self, project_id: int, ref: str, after_pipeline: int, name: str, value: str
    ) -> Pipeline | None:
        for id, (pipeline, variables) in self.pipelines.items():
            if pipeline.project_id == project_id and id > after_pipeline and variables.get(name) == value:
                return pipeline
        return None

    async def pipeline(self, project_id: int, pipeline_id: int) -> Pipeline | None:
        return self.pipelines[pipeline_id][0]

    async def tell(self, project_id: int, sha: str, mark: str, body: str) -> None:
        self.meet("before")
        if not any(text.startswith(mark) for text in self.told):
            self.told.append(body)
        self.meet("after")


def scan(by: TrialBy) -> Scan:
    return Scan(
        projects=tuple(
            TrackedProject(source=name, project_id=number, ref="main", trial=by)
            for number, name in enumerate(NAMES, start=1)
        ),
        sources=tuple(Source(id=name, kind="project", images=(f"r/{name}:latest",)) for name in NAMES),
        dependencies=tuple(
            Dependency(child=child, parent=parent, kind="from", file="f", line=1, image=f"r/{parent}:latest")
            for child, parent in EDGES
        ),
    )


RULE = DeploymentSettings(environment="production", start="x", variables={"A": "{image}"})


async def live(world: World, store: MemoryStore, *, deployment: bool) -> bool:
    """Be one process until it is killed, or all is done; tell whether all is."""
    lease = await store.take_lease(str(world.time), 1e9, world.time)
    assert isinstance(lease, Lease)
    memory = await store.load()
    knowledge = Knowledge(store, lease, Policy(), frozenset({"from"}), memory, now=world.time)
    await knowledge.rescan(scan(world.by), world.time)
    errands = Errands(
        knowledge, world, world, world, settings=BotSettings(deployments=(RULE,)), rows=memory.errands
    )
    if deployment:
        await errands.look_at_deployment(1, 5)
    else:
        await errands.look_at_note(1, 2, 3)
    for _ in range(40):
        await errands.turn()
        if not errands.is_busy:
            return True
        await world.sleep(UNSURE_SECONDS / 3)
    return False


def finish(world: World, *, deployment: bool = False) -> MemoryStore:
    """Begin again after each kill, as systemd does."""
    store = MemoryStore()

    async def lives() -> None:
        for _ in range(60):
            try:
                if await live(world, store, deployment=deployment):
                    return
            except KilledError:
                store.lease = None
        raise AssertionError("it does not come to an end")

    asyncio.run(lives())
    return store


troubles = st.dictionaries(
    st.integers(0, 12),
    st.sampled_from(["kill before", "kill after", "fail before", "fail after", "refuse"]),
    max_size=6,
)


@settings(deadline=None)
@given(troubles)
def test_a_trial_starts_each_pipeline_once_and_keeps_one_comment(script: dict[int, str]) -> None:
    world = World(script, "variable")
    finish(world)
    assert sorted(pipeline.project_id for pipeline, _ in world.pipelines.values()) == [2, 3, 4]
    assert len(world.comments) == 1
    assert "3 passed" in next(iter(world.comments.values()))


@settings(deadline=None)
@given(troubles)
def test_with_inputs_alone_no_pipeline_is_started_twice(script: dict[int, str]) -> None:
    world = World(script, "input")
    finish(world)
    started = [pipeline.project_id for pipeline, _ in world.pipelines.values()]
    assert len(started) == len(set(started))
    assert len(world.comments) == 1


@settings(deadline=None)
@given(troubles)
def test_a_deployment_is_followed_once(script: dict[int, str]) -> None:
    world = World(script, "variable")
    finish(world, deployment=True)
    assert [pipeline.project_id for pipeline, _ in world.pipelines.values()] == [9]
    assert world.told == []


def test_a_request_that_was_obeyed_is_known_after_a_restart() -> None:
    world = World({}, "variable")
    store = finish(world)
    store.lease = None
    assert asyncio.run(live(world, store, deployment=False))
    assert len(world.pipelines) == 3
