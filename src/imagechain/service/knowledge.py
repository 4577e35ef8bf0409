"""What the service knows: the chain, the projects behind its sources, and builds that were decided.

One rule: it is written before it is believed. Everything that changes goes through `take_in`, which writes
it to the store in one transaction and then tells the chain; a crash in between loses nothing, because what
was written is told again after the start. There is one writer at a time.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import inf

import msgspec

from imagechain.chain import (
    BuildFinished,
    BuildStarted,
    Chain,
    DependencyKind,
    Graph,
    ImageFound,
    Observation,
    Paused,
    Policy,
    Resumed,
    Snapshot,
    VersionRead,
    latest_at,
    put_back,
)
from imagechain.service.ports import Pipeline, Scan, Store, TrackedProject
from imagechain.service.published import published_names
from imagechain.service.renames import (
    forget,
    identity,
    rename_snapshot,
    renamed,
    renamed_sources,
    taken_sources,
)
from imagechain.store.values import BuildRow, Change, ErrandRow, Intent, Lease, Memory

#: Observations in the log before a new snapshot takes its place: as many as are read in a second or so.
_LOG_OBSERVATIONS_MAX = 5_000


class _Kept(msgspec.Struct, frozen=True, kw_only=True):
    """What a snapshot holds."""

    scan: Scan
    scanned_at: float
    chain: Snapshot
    cascades: dict[str, str]


#: Before the first scan.
NO_SCAN = Scan(projects=(), sources=(), dependencies=())
_EMPTY = _Kept(
    scan=NO_SCAN,
    scanned_at=0.0,
    chain=Snapshot(inputs={}, projects={}, pauses={}, resumed_at={}, recent_starts=()),
    cascades={},
)


class _Picture:
    """A scan, and all that is made from it; changed as a whole."""

    def __init__(
        self, scan: Scan, at: float, snapshot: Snapshot, policy: Policy, kinds: frozenset[DependencyKind]
    ) -> None:
        self.scan = scan
        self.at = at
        graph = Graph(scan.sources, scan.dependencies, kinds)
        self.chain = Chain(graph, policy)
        self.chain.recall(snapshot, at)
        self.published = published_names(graph)
        self.tracked = {project.source: project for project in scan.projects}
        self.by_identity = {identity(project): project for project in scan.projects}
        self.by_id: dict[int, tuple[TrackedProject, ...]] = {}
        for project in scan.projects:
            self.by_id[project.project_id] = (*self.by_id.get(project.project_id, ()), project)


def read_memory(
    memory: Memory, policy: Policy, kinds: frozenset[DependencyKind]
) -> tuple[Scan, Chain] | None:
    """Read what a replica has written; None: nothing yet."""
    if not memory.snapshot:
        return None
    kept = _decoder.decode(memory.snapshot)
    picture = _Picture(kept.scan, kept.scanned_at, kept.chain, policy, kinds)
    for observation in memory.observations:
        picture.chain.apply(observation)
    return picture.scan, picture.chain


#: What is to be done in one step: what was observed, and what was decided on it.
Decide = Callable[[], tuple[Sequence[Observation], Sequence[Intent]]]


class Knowledge:
    """What is known, and the only way to change it.

    Attributes:
        intents: builds that were decided and are not known to have started, by id.
        sent_at: when a request for the build of an intent may have reached GitLab last, by the intent's id.
        cascades: the cascade of the last build, by source, where we started it.
        watermarks: times up to which something was read.
        changed: set whenever anything was taken in.
    """

    def __init__(
        self,
        store: Store,
        lease: Lease,
        policy: Policy,
        kinds: frozenset[DependencyKind],
        memory: Memory,
        *,
        now: float,
    ) -> None:
        """Take up what was written last.

        Args:
            store: where it was written.
            lease: the right to write there.
            policy: when builds are started.
            kinds: kinds of dependencies that make a project stale.
            memory: what the store gave.
            now: Unix seconds.
        """
        self.lease = lease
        self.intents = {intent.id: intent for intent in memory.intents}
        self.sent_at: dict[str, float] = {}
        self.watermarks = dict(memory.watermarks)
        self.changed = asyncio.Event()
        self._store = store
        self._policy = policy
        self._kinds = kinds
        self._turn = asyncio.Lock()
        self._holds = 0
        self._released = asyncio.Event()
        self._released.set()
        kept = _decoder.decode(memory.snapshot) if memory.snapshot else _EMPTY
        self.cascades = dict(kept.cascades)
        self._picture = _Picture(kept.scan, kept.scanned_at, kept.chain, policy, kinds)
        for observation in memory.observations:
            self._believe(observation)
        self._logged = len(memory.observations)
        self._put_back(now)

    @property
    def chain(self) -> Chain:
        """The chain, of the graph that was scanned last."""
        return self._picture.chain

    @property
    def scan(self) -> Scan:
        """The projects and their dependencies, as they were found last."""
        return self._picture.scan

    @property
    def published(self) -> Mapping[str, tuple[str, ...]]:
        """The images of each source."""
        return self._picture.published

    @property
    def tracked(self) -> Mapping[str, TrackedProject]:
        """The branch behind each source that is a project."""
        return self._picture.tracked

    def projects_of(self, project_id: int) -> tuple[TrackedProject, ...]:
        """Give the tracked branches of a GitLab project."""
        return self._picture.by_id.get(project_id, ())

    @property
    def awaited(self) -> Mapping[str, Intent]:
        """The intents whose projects are here, by what their sources are called now."""
        found = ((self.project_of(intent), intent) for intent in self.intents.values())
        return {project.source: intent for project, intent in found if project is not None}

    def project_of(self, intent: Intent) -> TrackedProject | None:
        """Give the branch that an intent is for, wherever it is now; None: it left, and may come back."""
        return self._picture.by_identity.get(identity(intent))

    def is_here(self, project: TrackedProject) -> bool:
        """Tell whether a project has its path still; another one may have taken that."""
        here = self.tracked.get(project.source)
        return here is not None and identity(here) == identity(project)

    def intent_of(self, source: str, pipeline: Pipeline) -> Intent | None:
        """Give the intent that a pipeline was started for; its webhook may come before the answer does."""
        intent = self.awaited.get(source)
        if intent is None or intent.id not in self.sent_at or pipeline.source != "api":
            return None
        is_its = pipeline.project_id == intent.project_id and pipeline.id > intent.after_pipeline
        return intent if is_its else None

    async def take_in(
        self,
        observations: Iterable[Observation] = (),
        *,
        hints_done: Iterable[int] = (),
        closed: Iterable[str] = (),
        watermarks: Mapping[str, float] | None = None,
        errands: Iterable[ErrandRow] = (),
        of: TrackedProject | None = None,
    ) -> None:
        """Write what was observed, then believe it.

        Args:
            observations: what was observed.
            hints_done: hints that need not be followed up any more, by number.
            closed: intents of which it is known what came of them, by id.
            watermarks: times up to which something was read.
            errands: what the bots do.
            of: whose builds were observed. If a rescan has given its path to another project meanwhile,
                nothing of that is true.

        Raises:
            StoreError: nothing was written, and nothing is believed.
        """
        async with self._turn:
            if of is not None and not self.is_here(of):
                observations = ()
            await self._write(
                observations, (), tuple(hints_done), tuple(closed), watermarks or {}, errands=tuple(errands)
            )

    async def decide(self, decide: Decide) -> Sequence[Intent]:
        """Let something be decided on what is known now, and write it before anything else is taken in."""
        async with self._turn:
            if self._holds:
                return ()
            observations, intents = decide()
            if observations or intents:
                await self._write(observations, tuple(intents), (), (), {})
            return intents

    @contextmanager
    def held(self) -> Iterator[None]:
        """Decide nothing meanwhile: what is taken in says something only when all of it is."""
        self._holds += 1
        self._released.clear()
        try:
            yield
        finally:
            self._holds -= 1
            if self._holds == 0:
                self._released.set()
            self.changed.set()

    async def released(self) -> None:
        """Wait until something may be decided."""
        await self._released.wait()

    async def rescan(self, scan: Scan, at: float) -> bool:
        """Take in what the groups are now; tell whether that changed anything."""
        async with self._turn:
            if scan == self.scan:
                return False
            before, cascades = self._picture, self.cascades
            names = renamed_sources(before.scan.projects, scan.projects)
            taken = taken_sources(before.scan.projects, scan.projects)
            snapshot = rename_snapshot(forget(before.chain.snapshot(), taken), names)
            self._picture = _Picture(scan, at, snapshot, self._policy, self._kinds)
            self.cascades = renamed({s: name for s, name in cascades.items() if s not in taken}, names)
            try:
                await self._write((), (), (), (), {}, is_snapshot=True, renamed=names)
            except BaseException:
                self._picture, self.cascades = before, cascades
                raise
            return True

    def _put_back(self, now: float) -> None:
        """Take for the present what was known last, if that lies ahead.

        The machine's clock was put back since, or another machine was the one that acted: nothing is to be
        held until the clock has come so far again.
        """
        snapshot = self.chain.snapshot()
        ahead_seconds = latest_at(snapshot) - now
        if ahead_seconds > 0.0:
            known = put_back(snapshot, ahead_seconds)
            self._picture = _Picture(self.scan, self._picture.at, known, self._policy, self._kinds)
            # The next thing that is written takes all with it.
            self._logged = _LOG_OBSERVATIONS_MAX

    # --- one writer at a time ---------------------------------------------------------------------------

    async def _write(
        self,
        observations: Iterable[Observation],
        opened: tuple[Intent, ...],
        hints_done: tuple[int, ...],
        closed: tuple[str, ...],
        watermarks: Mapping[str, float],
        *,
        errands: tuple[ErrandRow, ...] = (),
        is_snapshot: bool = False,
        renamed: Mapping[str, str] | None = None,
    ) -> None:
        news = tuple(observation for observation in observations if self._is_news(observation))
        is_snapshot = is_snapshot or self._logged + len(news) > _LOG_OBSERVATIONS_MAX
        change = Change(
            observations=news,
            snapshot=self._encode() if is_snapshot else None,
            hints_done=hints_done,
            intents_opened=opened,
            intents_closed=closed,
            builds=self._rows(news),
            watermarks=watermarks,
            renamed=renamed or {},
            errands=errands,
        )
        if change == Change():
            return
        await self._store.write(change, self.lease)
        self._logged = len(news) + (0 if is_snapshot else self._logged)
        for observation in news:
            self._believe(observation)
        self.intents = {name: intent for name, intent in self.intents.items() if name not in closed}
        self.intents |= {intent.id: intent for intent in opened}
        self.sent_at = {name: at for name, at in self.sent_at.items() if name not in closed}
        self.watermarks.update(watermarks)
        self.changed.set()

    def _believe(self, seen: Observation) -> None:
        self.chain.apply(seen)
        if isinstance(seen, BuildStarted):
            if seen.cascade:
                self.cascades[seen.project] = seen.cascade
            else:
                self.cascades.pop(seen.project, None)

    def _is_news(self, seen: Observation) -> bool:
        """Leave out what was said before, and what the graph has no more: it may have changed meanwhile."""
        graph, facts = self.chain.graph, self.chain.facts
        if isinstance(seen, VersionRead):
            key = graph.input_number.get(seen.input)
            if key is None or (seen.version is None and self._is_unseen(graph.publisher[key])):
                # A missing image of a project of which nothing else is known does not say: build it.
                return False
            return facts.read_at[key] == -inf or facts.versions[key] != seen.version
        if isinstance(seen, Paused | Resumed) and seen.project is None:
            return True
        number = graph.number.get(str(seen.project))
        if number is None or facts.is_external(number):
            return False
        state = facts.states[number]
        if isinstance(seen, BuildStarted):
            return seen.build not in state.runs and seen.build not in state.ended
        if isinstance(seen, BuildFinished):
            return seen.build not in state.ended and all(name in graph.input_number for name in seen.outputs)
        if isinstance(seen, ImageFound):
            return state.record is None or seen.inputs is not None
        return True

    def _is_unseen(self, number: int) -> bool:
        if number < 0 or self.chain.facts.is_external(number):
            return False
        state = self.chain.facts.states[number]
        return state.record is None and not (state.is_inactive or state.runs or state.ended)

    def _rows(self, news: Iterable[Observation]) -> tuple[BuildRow, ...]:
        """Tell the history of what was observed of builds."""
        rows: dict[tuple[str, str], BuildRow] = {}
        for seen in news:
            if isinstance(seen, BuildStarted):
                rows[seen.project, seen.build] = BuildRow(
                    id=seen.build,
                    source=seen.project,
                    url=seen.url,
                    status="running",
                    cause=seen.cause,
                    cascade=seen.cascade or None,
                    started_at=seen.at,
                )
            elif isinstance(seen, BuildFinished):
                rows[seen.project, seen.build] = self._ended_row(seen, rows.get((seen.project, seen.build)))
        return tuple(rows.values())

    def _ended_row(self, seen: BuildFinished, started: BuildRow | None) -> BuildRow:
        if started is None:
            last = self.chain.facts.states[self.chain.graph.number_of(seen.project)].last_build
            is_last = last is not None and last.id == seen.build
            started = BuildRow(
                id=seen.build,
                source=seen.project,
                status="running",
                url=last.url if is_last and last is not None else "",
                cause=last.cause if is_last and last is not None else "",
                started_at=last.started_at if is_last and last is not None else None,
                cascade=self.cascades.get(seen.project),
            )
        return msgspec.structs.replace(started, status=seen.outcome, finished_at=seen.at)

    def _encode(self) -> bytes:
        return msgspec.msgpack.encode(
            _Kept(
                scan=self.scan,
                scanned_at=self._picture.at,
                chain=self.chain.snapshot(),
                cascades=self.cascades,
            )
        )


_decoder = msgspec.msgpack.Decoder(_Kept)
