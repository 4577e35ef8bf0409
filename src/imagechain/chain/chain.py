"""The state of a chain: facts, changed by observations only, and what is stale and settled by them.

    stale(p)    the last build's inputs differ from the present versions, or there was none, or a person asked
    settled(p)  observed, not stale, not building, and every parent is settled

Both are kept incrementally: an observation re-evaluates the projects that read what it speaks of, and a
project that becomes settled or unsettled tells its children, which count their unsettled parents. So an
observation costs what it affects, never the whole graph. `decide`, `status`, `explain` and `plan` only read.

Observations may come doubled, late and in any order: what is older than what is known is ignored.
Rules that are decided here, besides those of the design:

- A project is *unknown*, neither stale nor settled, until its image, its record or a build of it was seen.
- A build that succeeds and yet does not hold the inputs it was started for (an old base in a builder's cache,
  an image that was not pushed) counts as failed: otherwise it would be started for ever.
- Of a build that was not seen to start, and whose image has no record, nobody knows what it was built from:
  the project is stale, and built once more.
"""

from bisect import insort
from collections.abc import Callable, Mapping
from math import inf
from typing import Any, ClassVar

from msgspec.structs import replace

from imagechain.chain.agenda import Agenda
from imagechain.chain.facts import Facts
from imagechain.chain.graph import Graph, UnknownSourceError
from imagechain.chain.policy import Policy
from imagechain.chain.snapshot import Snapshot, fill_facts, read_facts
from imagechain.chain.state import Ask, Failure, LastBuild, Pause, ProjectState, Record, Run
from imagechain.chain.values import (
    BuildFinished,
    BuildStarted,
    GivenUp,
    ImageFound,
    Observation,
    Paused,
    RebuildAsked,
    Resumed,
    RetryAsked,
    VersionRead,
    WentInactive,
)

#: Ended builds of a project that are remembered, so that late and doubled messages about them are known.
_ENDED_BUILDS_MAX = 32


class Chain:
    """Facts about the sources of a graph, and what follows from them.

    Attributes:
        graph: as given.
        facts: what was observed.
        agenda: what may happen next.
        changes: how many observations were taken in; while it stays, nothing else is to be told.
    """

    def __init__(
        self, graph: Graph, policy: Policy, expected_seconds: Mapping[str, float] | None = None
    ) -> None:
        """Begin without any observation: external images are settled, projects are unknown.

        Args:
            graph: the sources, and what they are built from.
            policy: when stale projects are started.
            expected_seconds: how long a build lasts, by project; the longest remaining path goes first.
        """
        self.graph = graph
        self.facts = Facts(graph, policy, expected_seconds or {})
        self.agenda = Agenda()
        self.changes = 0
        self._resumed_at: dict[int | None, float] = {}
        for number, state in enumerate(self.facts.states):
            state.is_settled = self.facts.is_external(number)
            if not state.is_settled:
                for child in graph.outer(number, graph.children):
                    self.facts.states[child].waits += 1

    def snapshot(self) -> Snapshot:
        """Give all that this chain knows, for `recall`."""
        return read_facts(self.facts, self._resumed_at)

    def recall(self, snapshot: Snapshot, at: float) -> None:
        """Take in what another chain knew, of this graph or of an earlier one, before anything else.

        Args:
            snapshot: what it knew.
            at: when this chain's graph was read.
        """
        rewired = fill_facts(self.facts, snapshot, at)
        for number, state in enumerate(self.facts.states):
            if number in rewired:
                _forget_attempts(state)
            if not self.facts.is_external(number):
                self._refresh(number)
        for name, since in snapshot.resumed_at.items():
            if not name or name in self.graph.number:
                self._resumed(Resumed(project=name or None, at=since))
        for name, pause in snapshot.pauses.items():
            if not name or name in self.graph.number:
                self._paused(
                    Paused(
                        project=name or None,
                        at=pause.at,
                        subtree=pause.subtree,
                        by=pause.by,
                        reason=pause.reason,
                    )
                )
        self.agenda.ripen(self.facts, at)

    def apply(self, observation: Observation) -> None:
        """Take in what a system of record, or a person, said.

        Raises:
            UnknownSourceError: it speaks of a source or an input that the graph does not have.
        """
        self.changes += 1
        self._handlers[type(observation)](self, observation)
        self.agenda.ripen(self.facts, observation.at)

    # --- observations of images -------------------------------------------------------------------------

    def _version_read(self, seen: VersionRead) -> None:
        self._read(self._key(seen.input), seen.version, seen.at)

    def _read(self, key: int, version: str | None, at: float) -> None:
        facts = self.facts
        if at < facts.read_at[key]:
            return
        is_first = facts.read_at[key] == -inf
        facts.read_at[key] = at
        before = facts.versions[key]
        is_moved = version != before
        if not (is_moved or is_first):
            return
        facts.before[key], facts.versions[key], facts.changed_at[key] = before, version, at
        for reader in self.graph.readers[key]:
            state = facts.states[reader]
            if before is None:
                self._adopt(reader, key)
            if is_moved and state.failure is not None and not facts.is_inner(reader, key):
                _forget_attempts(state)
            self._refresh(reader)
        publisher = self.graph.publisher[key]
        if publisher >= 0 and (version is None or before is None) and not facts.is_external(publisher):
            self._refresh(publisher)

    def _adopt(self, number: int, key: int) -> None:
        """Take over the first version of an input that could not be read when the project was first seen."""
        state = self.facts.states[number]
        place = self.graph.inputs[number].index(key)
        if state.record is not None and state.record.is_adopted and state.record.versions[place] is None:
            versions = list(state.record.versions)
            versions[place] = self.facts.versions[key]
            state.record = replace(state.record, versions=tuple(versions))

    def _image_found(self, seen: ImageFound) -> None:
        number = self._project(seen.project)
        state = self.facts.states[number]
        if state.record is not None and (seen.inputs is None or seen.at < state.record.at):
            return  # Not first sight, and no record that is newer: what is known is worth more.
        state.is_inactive = False
        if seen.build and seen.build not in state.runs and seen.build not in state.ended:
            state.ended = (*state.ended, seen.build)[-_ENDED_BUILDS_MAX:]
            if state.last_build is None:
                state.last_build = LastBuild(
                    id=seen.build, status="success", finished_at=seen.at, told_at=seen.told_at
                )
        if seen.inputs is not None:
            state.record = Record(
                at=seen.at, told_at=seen.told_at, versions=self._versions(number, seen.inputs)
            )
        else:
            state.record = Record(
                at=seen.at,
                told_at=seen.told_at,
                versions=self.facts.present(number),
                is_known=seen.adopt,
                is_adopted=seen.adopt,
                proven_stale=frozenset(self._key(name) for name in seen.proven_stale),
            )
        self._refresh(number)

    def _went_inactive(self, seen: WentInactive) -> None:
        number = self._project(seen.project)
        state = self.facts.states[number]
        if not state.runs and not state.ended:
            state.is_inactive = True
            self._refresh(number)

    # --- observations of builds -------------------------------------------------------------------------

    def _build_started(self, seen: BuildStarted) -> None:
        number = self._project(seen.project)
        state = self.facts.states[number]
        if seen.build in state.runs or seen.build in state.ended:
            return
        known = self.facts.known_at(number, seen.at)
        versions = self._versions(number, seen.inputs or {}, known)
        state.runs[seen.build] = Run(build=seen.build, at=seen.at, versions=versions)
        state.is_inactive = False
        if state.failure is not None:
            state.failure = replace(state.failure, is_given_up=False)
        state.last_build = LastBuild(
            id=seen.build,
            url=seen.url,
            status="running",
            cause=seen.cause,
            started_at=seen.at,
            told_at=_latest_told(state.last_build, seen),
        )
        self.facts.builds_count += 1
        starts_max = self.facts.policy.starts_per_minute_max
        if starts_max is not None:
            insort(self.facts.recent_starts, seen.at)
            del self.facts.recent_starts[:-starts_max]
        self._refresh(number)

    def _build_finished(self, seen: BuildFinished) -> None:
        number = self._project(seen.project)
        state = self.facts.states[number]
        if seen.build in state.ended:
            return
        run = state.runs.get(seen.build)
        if run is not None:
            # Nothing ends before it began, whatever the clock says of who told it.
            seen = replace(seen, at=max(seen.at, run.at))
        outputs = [(self._key(name), version) for name, version in seen.outputs.items()]
        for key, version in outputs:
            # Before the build counts as ended: children become stale before their parent becomes settled,
            # so that what is below them is not settled and unsettled in vain.
            self._read(key, version, seen.at)
        self.facts.builds_count -= run is not None
        state.runs.pop(seen.build, None)
        state.ended = (*state.ended, seen.build)[-_ENDED_BUILDS_MAX:]
        state.is_inactive = False
        self._note_end(state, run, seen)
        if not _is_past(seen, state.record):
            if seen.outcome == "success":
                self._succeed(number, run, seen)
            elif seen.outcome != "superseded":
                state.failure = self._failed(number, run, seen, seen.message)
        self._refresh(number)

    def _note_end(self, state: ProjectState, run: Run | None, seen: BuildFinished) -> None:
        last, told_at = state.last_build, _latest_told(state.last_build, seen)
        if last is not None and last.id == seen.build:
            # Told to a second, an end may seem to be before the start: it is what comes later that counts.
            end_told_at = seen.told_at if seen.told_at is not None else last.told_at
            state.last_build = replace(last, status=seen.outcome, finished_at=seen.at, told_at=end_told_at)
        elif last is None or (last.finished_at is not None and last.finished_at <= seen.at):
            started_at = run.at if run is not None else None
            state.last_build = LastBuild(
                id=seen.build,
                status=seen.outcome,
                started_at=started_at,
                finished_at=seen.at,
                told_at=told_at,
            )
        else:
            state.last_build = replace(last, told_at=told_at)

    def _succeed(self, number: int, run: Run | None, seen: BuildFinished) -> None:
        """Take in the success of a build that ended later than the one on record."""
        state = self.facts.states[number]
        state.record = self._record(number, run, seen)
        if run is not None and state.ask is not None and run.at >= state.ask.at:
            state.ask = replace(state.ask, is_answered=True)
        state.has_lost_image = bool(self.facts.lost_images(number))
        was_in_vain = (
            self._was_for_present(number, run) and not state.is_asked and self.facts.is_stale(number)
        )
        if was_in_vain:
            message = "it succeeded, but its image does not hold what it was built for"
            state.failure = self._failed(number, run, seen, message)
        elif state.failure is not None and state.failure.at <= seen.at:
            state.failure = None

    def _record(self, number: int, run: Run | None, seen: BuildFinished) -> Record:
        if seen.inputs is not None:
            versions = self._versions(number, seen.inputs)
        elif run is not None:
            versions = self._versions(number, seen.proven, run.versions)
        else:
            versions = self.facts.present(number)
        is_known = seen.inputs is not None or run is not None
        last = self.facts.states[number].record
        at = seen.at if last is None else max(seen.at, last.at)
        return Record(at=at, told_at=seen.told_at, versions=versions, is_known=is_known)

    def _failed(self, number: int, run: Run | None, seen: BuildFinished, message: str) -> Failure:
        earlier = self.facts.states[number].failure
        # A failure with inputs that have moved since says nothing of the present ones.
        is_past = run is not None and not self._was_for_present(number, run)
        return Failure(
            since=earlier.since if earlier is not None else seen.at,
            at=max(seen.at, earlier.at) if earlier is not None else seen.at,
            attempts=0 if is_past else 1 + (earlier.attempts if earlier is not None else 0),
            is_cancelled=seen.outcome == "cancelled" and not is_past,
            message=message,
        )

    def _was_for_present(self, number: int, run: Run | None) -> bool:
        return run is not None and not any(True for _ in self.facts.differing(number, run.versions))

    def _given_up(self, seen: GivenUp) -> None:
        number = self._project(seen.project)
        state = self.facts.states[number]
        if state.failure is not None and not state.runs:
            state.failure = replace(state.failure, is_given_up=True)
            self._refresh(number)

    # --- what people ask --------------------------------------------------------------------------------

    def _rebuild_asked(self, seen: RebuildAsked) -> None:
        number = self._project(seen.project)
        state = self.facts.states[number]
        if state.ask is None or seen.at > state.ask.at:
            state.ask = Ask(at=seen.at, by=seen.by, reason=seen.reason)
            _forget_attempts(state)
            self._refresh(number)

    def _retry_asked(self, seen: RetryAsked) -> None:
        number = self._project(seen.project)
        state = self.facts.states[number]
        if state.failure is not None and not state.runs and seen.at >= state.failure.at:
            state.ask = Ask(at=seen.at, by=seen.by, reason=seen.reason)
            _forget_attempts(state)
            self._refresh(number)

    def _paused(self, seen: Paused) -> None:
        target = None if seen.project is None else self.graph.number_of(seen.project)
        current = self._pause_of(target)
        if seen.at < self._resumed_at.get(target, -inf) or (current is not None and seen.at < current.at):
            return
        pause = Pause(at=seen.at, subtree=seen.subtree, by=seen.by, reason=seen.reason)
        if target is None:
            self.facts.pause_of_all = pause
            return
        self._release(target)
        self.facts.pauses[target] = pause
        for number in self.facts.held_by(target):
            self.facts.states[number].pauses += 1
            self.agenda.place(self.facts, number)

    def _resumed(self, seen: Resumed) -> None:
        target = None if seen.project is None else self.graph.number_of(seen.project)
        current = self._pause_of(target)
        if current is not None and seen.at < current.at:
            return
        self._resumed_at[target] = max(seen.at, self._resumed_at.get(target, -inf))
        if target is None:
            self.facts.pause_of_all = None
        else:
            self._release(target)

    def _pause_of(self, target: int | None) -> Pause | None:
        return self.facts.pause_of_all if target is None else self.facts.pauses.get(target)

    def _release(self, target: int) -> None:
        if target in self.facts.pauses:
            held = self.facts.held_by(target)
            del self.facts.pauses[target]
            for number in held:
                self.facts.states[number].pauses -= 1
                self.agenda.place(self.facts, number)

    _handlers: ClassVar[Mapping[type, Callable[["Chain", Any], None]]] = {
        VersionRead: _version_read,
        ImageFound: _image_found,
        WentInactive: _went_inactive,
        BuildStarted: _build_started,
        BuildFinished: _build_finished,
        GivenUp: _given_up,
        RebuildAsked: _rebuild_asked,
        RetryAsked: _retry_asked,
        Paused: _paused,
        Resumed: _resumed,
    }

    # --- what follows -----------------------------------------------------------------------------------

    def _refresh(self, number: int) -> None:
        """Derive again what follows from the facts about one project, and tell its children."""
        state = self.facts.states[number]
        state.has_lost_image = bool(self.facts.lost_images(number))
        state.is_stale = self.facts.is_stale(number)
        if not state.is_stale:
            state.failure = None
        self._settle(number)
        self.agenda.place(self.facts, number)

    def _settle(self, number: int) -> None:
        """Carry a change between settled and unsettled down the graph, as far as it changes anything."""
        states = self.facts.states
        to_check = [number]
        while to_check:
            number = to_check.pop()
            state = states[number]
            is_settled = state.is_at_rest and (state.is_inactive or not state.waits)
            if is_settled == state.is_settled:
                continue
            state.is_settled = is_settled
            for child in self.graph.outer(number, self.graph.children):
                states[child].waits += -1 if is_settled else 1
                if states[child].waits == (0 if is_settled else 1):
                    to_check.append(child)
                    self.agenda.place(self.facts, child)

    # --- names -> numbers -------------------------------------------------------------------------------

    def _versions(
        self, number: int, given: Mapping[str, str], otherwise: tuple[str | None, ...] | None = None
    ) -> tuple[str | None, ...]:
        """Put given versions in the order of a source's inputs; `otherwise` counts for those not given."""
        keys = self.graph.inputs[number]
        defaults = otherwise if otherwise is not None else (None,) * len(keys)
        names = self.graph.input_names
        return tuple([given.get(names[key], default) for key, default in zip(keys, defaults, strict=True)])

    def _key(self, name: str) -> int:
        key = self.graph.input_number.get(name)
        if key is None:
            raise UnknownSourceError(f"{name!r} is no input of the graph; read only what its sources name")
        return key

    def _project(self, name: str) -> int:
        number = self.graph.number_of(name)
        if self.facts.is_external(number):
            raise UnknownSourceError(f"{name!r} is an external image; only projects are built")
        return number


def _is_past(seen: BuildFinished, record: Record | None) -> bool:
    """Tell whether a build ended before the one on record: by our clock, and by that of who told both.

    Where that one was set in between, they do not say the same.
    """
    if record is None or seen.at >= record.at:
        return False
    return seen.told_at is None or record.told_at is None or seen.told_at < record.told_at


def _latest_told(last: LastBuild | None, seen: BuildStarted | BuildFinished) -> float | None:
    times = (last.told_at if last is not None else None, seen.told_at)
    return max((at for at in times if at is not None), default=None)


def _forget_attempts(state: ProjectState) -> None:
    """Let a failed project start at once: its inputs moved, or a person asked."""
    if state.failure is not None:
        state.failure = replace(state.failure, attempts=0, is_cancelled=False, is_given_up=False)
