"""The state of a chain: facts, changed by observations only, and what is stale and settled by them.

    stale(p)    the last build's inputs differ from the present versions, or there was none, or a person asked
    settled(p)  observed, not stale, not building, and every parent is settled

Both are kept incrementally: an observation re-evaluates the projects that read what it speaks of, and a project
that becomes settled or unsettled tells its children, which count their unsettled parents. So the cost of an
observation grows with what it affects, never with the whole graph. `decide` and `explain` only read.

Rules that are decided here, besides those of the design:

- An input is compared only while its present version is known: what could not be read starts nothing.
- A project is *unknown*, neither stale nor settled, until its image, its record or a build of it was seen.
- What is stale only by its layers at first sight holds up nobody: its image was the same before we came.
- A build that succeeds and yet changes nothing of what it was started for (an old base in a builder's cache, an image
  that was not pushed) counts as failed: otherwise it would be started for ever.
"""

from bisect import insort
from collections.abc import Callable, Iterator, Mapping
from math import inf
from typing import Any

from msgspec.structs import replace

from imagechain.chain.graph import Graph, UnknownSourceError
from imagechain.chain.policy import Policy
from imagechain.chain.queue import Queue
from imagechain.chain.state import ENDED_BUILDS_MAX, Failure, LastBuild, Pause, ProjectState, Record, Run
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

#: (not asked by a person, minus the longest remaining path in seconds)
Priority = tuple[float, float]


class Chain:
    """Facts about the sources of a graph, and what follows from them.

    Attributes:
        graph, policy: as given.
        states: what is known of each source, by number.
        versions: present version of each input, by the input's number; None: unknown, or there is no such image.
        changed_at: when each version was first read, by the input's number; -inf: never read.
        pauses: pauses of single projects and their subtrees, by number.
        pause_of_all: the pause of everything, if there is one.
        ready: projects that may start, by priority; `due` says from when on.
        waiting: projects that may start later, by that time.
        running: projects that build, by the start of their oldest build.
        failing: failed projects that hold up their children, by the time they began to fail.
        builds_count: builds that run.
        recent_starts: when the last builds started, as many as `Policy.starts_per_minute_max`.
    """

    def __init__(
        self, graph: Graph, policy: Policy, expected_seconds: Mapping[str, float] | None = None
    ) -> None:
        self.graph = graph
        self.policy = policy
        self.states = [ProjectState() for _ in graph.ids]
        self.versions: list[str | None] = [None] * len(graph.input_names)
        self.changed_at = [-inf] * len(graph.input_names)
        self.pauses: dict[int, Pause] = {}
        self.pause_of_all: Pause | None = None
        self.remaining = graph.remaining_seconds(expected_seconds or {})
        self.ready: Queue[Priority] = Queue()
        self.waiting: Queue[tuple[float]] = Queue()
        self.running: Queue[tuple[float]] = Queue()
        self.failing: Queue[tuple[float]] = Queue()
        self.due: dict[int, float] = {}
        self.builds_count = 0
        self.recent_starts: list[float] = []
        self._latest_at = -inf
        self._read_at = [-inf] * len(graph.input_names)
        #: The version before the present one, to know what a build read that started before it changed.
        self._before: list[str | None] = [None] * len(graph.input_names)
        self._resumed_at: dict[int | None, float] = {}
        self._begin_settled()

    def apply(self, observation: Observation) -> None:
        """Take in what a system of record, or a person, said.

        Raises:
            UnknownSourceError: it speaks of a source or an input that the graph does not have.
        """
        self._handlers[type(observation)](self, observation)
        if observation.at > self._latest_at:
            self._latest_at = observation.at
            self._ripen()

    # --- questions, in numbers ---------------------------------------------------------------------------

    def present(self, number: int) -> tuple[str | None, ...]:
        """Give the present versions of a source's inputs."""
        return tuple(self.versions[input] for input in self.graph.inputs[number])

    def differing(self, number: int) -> Iterator[tuple[int, str | None]]:
        """Find the inputs whose present versions are not those on record, with the version on record."""
        record = self.states[number].record
        if record is None or not record.known:
            return
        graph = self.graph
        is_cyclic = graph.component[number] >= 0
        for input, before in zip(graph.inputs[number], record.versions, strict=True):
            after = self.versions[input]
            if after is None or after == before or (before is None and record.adopted):
                continue
            if is_cyclic and self.is_inner_input(number, input):
                continue
            yield input, before

    def is_inner_input(self, number: int, input: int) -> bool:
        """Tell whether an input comes from a member of the cycle that the source is in."""
        publisher = self.graph.publisher[input]
        return publisher >= 0 and self.graph.is_inner(number, publisher)

    def lost_outputs(self, number: int) -> list[int]:
        """Find the images of a project that are known not to exist, though they should."""
        record = self.states[number].record
        return [
            output
            for output in self.graph.outputs[number]
            if self.versions[output] is None
            and self._read_at[output] > -inf
            # Taken over at first sight: what was never there is not missed.
            and not (record is not None and record.adopted and self._before[output] is None)
        ]

    def cycle_gaps(self, number: int) -> list[int]:
        """Find the inputs from a source's own cycle that do not exist yet: nothing can begin such a cycle."""
        if self.graph.component[number] < 0:
            return []
        return [
            input
            for input in self.graph.inputs[number]
            if self.versions[input] is None and self.is_inner_input(number, input)
        ]

    def retry_at(self, number: int) -> float:
        """Tell when a failed project may be tried again; inf: not by itself; -inf: it has not failed."""
        failure = self.states[number].failure
        if failure is None:
            return -inf
        if failure.cancelled:
            return inf
        if failure.attempts == 0:
            return -inf
        if failure.attempts > len(self.policy.retry_seconds):
            return inf
        return failure.at + self.policy.retry_seconds[failure.attempts - 1]

    def quiet_at(self, number: int) -> float:
        """Tell when the external images that a project is stale by have been still for long enough."""
        external = (
            self.changed_at[input] + self.policy.quiet_seconds
            for input, _ in self.differing(number)
            if self.graph.publisher[input] >= 0 and self._is_external(self.graph.publisher[input])
        )
        return max(external, default=-inf)

    # --- observations ------------------------------------------------------------------------------------

    def _version_read(self, observation: VersionRead) -> None:
        self._read(self._input(observation.input), observation.version, observation.at)

    def _build_started(self, observation: BuildStarted) -> None:
        number = self._project(observation.project)
        state = self.states[number]
        if observation.build in state.runs or observation.build in state.ended:
            return
        given = observation.inputs or {}
        known = tuple(
            self.versions[input] if self.changed_at[input] <= observation.at else self._before[input]
            for input in self.graph.inputs[number]
        )
        versions = tuple(
            given.get(self.graph.input_names[input], version)
            for input, version in zip(self.graph.inputs[number], known, strict=True)
        )
        state.runs[observation.build] = Run(
            build=observation.build,
            at=observation.at,
            versions=versions,
            seen=self.present(number),
            cause=observation.cause,
            url=observation.url,
        )
        self.builds_count += 1
        state.inactive = False
        if state.failure is not None:
            state.failure = replace(state.failure, given_up=False)
        state.last_build = LastBuild(
            id=observation.build,
            url=observation.url,
            status="running",
            cause=observation.cause,
            started_at=observation.at,
            finished_at=None,
        )
        if self.policy.starts_per_minute_max is not None:
            insort(self.recent_starts, observation.at)
            del self.recent_starts[: -self.policy.starts_per_minute_max]
        self._refresh(number)

    def _build_finished(self, observation: BuildFinished) -> None:
        number = self._project(observation.project)
        state = self.states[number]
        if observation.build in state.ended:
            return
        run = state.runs.get(observation.build)
        for name, version in observation.outputs.items():
            # While the build still counts as running: children must not be seen between old and new.
            self._read(self._input(name), version, observation.at)
        if run is not None:
            del state.runs[observation.build]
            self.builds_count -= 1
        state.ended = (*state.ended, observation.build)[-ENDED_BUILDS_MAX:]
        state.inactive = False
        state.last_build = LastBuild(
            id=observation.build,
            url=run.url if run else "",
            status=observation.outcome,
            cause=run.cause if run else "",
            started_at=run.at if run else None,
            finished_at=observation.at,
        )
        if observation.outcome == "success":
            self._succeed(number, run, observation)
        elif state.record is None or observation.at >= state.record.at:
            self._fail(number, run, observation, observation.message)
        self._refresh(number)

    def _succeed(self, number: int, run: Run | None, observation: BuildFinished) -> None:
        state = self.states[number]
        if state.record is not None and observation.at < state.record.at:
            return
        inputs = self.graph.inputs[number]
        names = [self.graph.input_names[input] for input in inputs]
        if observation.inputs is not None:
            versions = tuple(observation.inputs.get(name) for name in names)
        else:
            assumed = run.versions if run else (None,) * len(inputs)
            versions = tuple(
                observation.proven.get(name, version) for name, version in zip(names, assumed, strict=True)
            )
        known = run is not None or observation.inputs is not None
        state.record = Record(at=observation.at, versions=versions, known=known)
        if run is not None and state.asked_at is not None and run.at >= state.asked_at:
            state.is_asked = False
        if state.failure is not None and state.failure.at <= observation.at:
            earlier, state.failure = state.failure, None
        else:
            earlier = None
        if (
            run is not None
            and run.seen == self.present(number)
            and self._is_stale(number)
            and not state.is_asked
        ):
            state.failure = earlier
            self._fail(
                number, run, observation, "it succeeded, but its image does not hold the present inputs"
            )

    def _fail(self, number: int, run: Run | None, observation: BuildFinished, message: str) -> None:
        state = self.states[number]
        earlier = state.failure
        moved = run is not None and run.seen != self.present(number)
        attempts = 0 if moved else 1 + (earlier.attempts if earlier else 0)
        state.failure = Failure(
            since=earlier.since if earlier else observation.at,
            at=max(observation.at, earlier.at) if earlier else observation.at,
            attempts=attempts,
            cancelled=observation.outcome == "cancelled" and not moved,
            message=message,
        )

    def _image_found(self, observation: ImageFound) -> None:
        number = self._project(observation.project)
        state = self.states[number]
        if state.record is not None and observation.at < state.record.at:
            return
        if state.record is not None and observation.inputs is None:
            return  # Not first sight: what is known already is worth more.
        state.inactive = False
        inputs = self.graph.inputs[number]
        if observation.inputs is not None:
            versions = tuple(observation.inputs.get(self.graph.input_names[input]) for input in inputs)
            state.record = Record(at=observation.at, versions=versions)
        elif observation.adopt:
            state.record = Record(
                at=observation.at,
                versions=self.present(number),
                adopted=True,
                proven_stale=frozenset(self._input(name) for name in observation.proven_stale),
            )
        else:
            state.record = Record(at=observation.at, versions=(None,) * len(inputs), known=False)
        self._refresh(number)

    def _went_inactive(self, observation: WentInactive) -> None:
        number = self._project(observation.project)
        self.states[number].inactive = True
        self._refresh(number)

    def _rebuild_asked(self, observation: RebuildAsked) -> None:
        number = self._project(observation.project)
        state = self.states[number]
        if state.asked_at is not None and observation.at <= state.asked_at:
            return
        state.asked_at, state.asked_by, state.is_asked = observation.at, observation.by, True
        self._forget_attempts(state)
        self._refresh(number)

    def _retry_asked(self, observation: RetryAsked) -> None:
        number = self._project(observation.project)
        state = self.states[number]
        if state.failure is None or state.runs or observation.at < state.failure.at:
            return
        self._forget_attempts(state)
        state.asked_at, state.asked_by, state.is_asked = observation.at, observation.by, True
        self._refresh(number)

    def _paused(self, observation: Paused) -> None:
        target = None if observation.project is None else self._project(observation.project)
        if observation.at < self._resumed_at.get(target, -inf):
            return
        pause = Pause(
            at=observation.at, subtree=observation.subtree, by=observation.by, reason=observation.reason
        )
        if target is None:
            self.pause_of_all = pause
            return
        self._end_pause(target)
        self.pauses[target] = pause
        for number in self.paused_by(target):
            self.states[number].pauses += 1
            self._reschedule(number)

    def _resumed(self, observation: Resumed) -> None:
        target = None if observation.project is None else self._project(observation.project)
        pause = self.pause_of_all if target is None else self.pauses.get(target)
        if pause is not None and observation.at < pause.at:
            return
        self._resumed_at[target] = max(observation.at, self._resumed_at.get(target, -inf))
        if target is None:
            self.pause_of_all = None
        else:
            self._end_pause(target)

    def _given_up(self, observation: GivenUp) -> None:
        number = self._project(observation.project)
        state = self.states[number]
        if state.failure is not None and not state.runs:
            state.failure = replace(state.failure, given_up=True)
            self._refresh(number)

    _handlers: Mapping[type, Callable[["Chain", Any], None]] = {
        VersionRead: _version_read,
        BuildStarted: _build_started,
        BuildFinished: _build_finished,
        ImageFound: _image_found,
        WentInactive: _went_inactive,
        RebuildAsked: _rebuild_asked,
        RetryAsked: _retry_asked,
        Paused: _paused,
        Resumed: _resumed,
        GivenUp: _given_up,
    }

    # --- what follows ------------------------------------------------------------------------------------

    def _begin_settled(self) -> None:
        """Count unsettled parents at the beginning: external images are settled, projects are unknown."""
        for number, source in enumerate(self.graph.sources):
            state = self.states[number]
            state.settled = source.kind == "external"
            if not state.settled:
                for child in self.graph.outer(number, self.graph.children):
                    self.states[child].waits += 1

    def _read(self, input: int, version: str | None, at: float) -> None:
        if at < self._read_at[input]:
            return
        is_first = self._read_at[input] == -inf
        self._read_at[input] = at
        before = self.versions[input]
        if version == before and not is_first:
            return
        self._before[input], self.versions[input], self.changed_at[input] = before, version, at
        publisher = self.graph.publisher[input]
        if publisher >= 0 and not self._is_external(publisher) and (version is None or before is None):
            self._refresh(publisher)
        for reader in self.graph.readers[input]:
            state = self.states[reader]
            if before is None and state.record is not None and state.record.adopted:
                self._adopt(reader, input)
            if state.failure is not None and not self.is_inner_input(reader, input):
                self._forget_attempts(state)
            self._refresh(reader)

    def _adopt(self, number: int, input: int) -> None:
        """Take over the first version of an input that could not be read when the project was first seen."""
        record = self.states[number].record
        place = self.graph.inputs[number].index(input)
        if record is not None and record.versions[place] is None:
            versions = (*record.versions[:place], self.versions[input], *record.versions[place + 1 :])
            self.states[number].record = replace(record, versions=versions)

    def _refresh(self, number: int) -> None:
        """Derive again what follows from the facts about one project, and tell its children."""
        state = self.states[number]
        state.has_missing_image = bool(self.lost_outputs(number))
        state.stale = self._is_stale(number)
        if not state.stale:
            state.failure = None
        self._settle(number)
        self._reschedule(number)

    def _is_stale(self, number: int) -> bool:
        state = self.states[number]
        if state.inactive:
            return False
        if state.is_asked or state.has_missing_image or state.never_built:
            return True
        return state.record is not None and (
            not state.record.known or next(self.differing(number), None) is not None
        )

    def _settle(self, number: int) -> None:
        """Carry a change between settled and unsettled down the graph, as far as it changes anything."""
        changed = [number]
        while changed:
            number = changed.pop()
            state = self.states[number]
            settled = state.stands_still and (state.inactive or not state.waits)
            if settled == state.settled:
                continue
            state.settled = settled
            for child in self.graph.outer(number, self.graph.children):
                self.states[child].waits += -1 if settled else 1
                if self.states[child].waits == (0 if settled else 1):
                    changed.append(child)
                    self._reschedule(child)

    def _reschedule(self, number: int) -> None:
        """Put a project into the queues that it belongs into."""
        state = self.states[number]
        self.ready.drop(number)
        self.waiting.drop(number)
        due = inf
        if state.stale and not (state.runs or state.waits or state.pauses or self.cycle_gaps(number)):
            due = max(self.retry_at(number), self.quiet_at(number))
        if due < inf:
            self.due[number] = due
            if due <= self._latest_at:
                self.ready.put(number, self.priority(number))
            else:
                self.waiting.put(number, (due,))
        if state.runs:
            self.running.put(number, (min(run.at for run in state.runs.values()),))
        else:
            self.running.drop(number)
        if state.failure is not None and not state.runs and not state.failure.given_up:
            self.failing.put(number, (state.failure.since,))
        else:
            self.failing.drop(number)

    def priority(self, number: int) -> Priority:
        """Tell who goes first: what people asked for, then the longest remaining path."""
        return (0.0 if self.states[number].is_asked else 1.0, -self.remaining[number])

    def _ripen(self) -> None:
        """Move what has become due by the time of the latest observation among the ready."""
        while (first := self.waiting.first()) is not None and first[0][0] <= self._latest_at:
            self.waiting.drop(first[1])
            self.ready.put(first[1], self.priority(first[1]))

    def paused_by(self, target: int) -> set[int]:
        """Find the projects that a pause of one source holds."""
        below = self.graph.reach(target, self.graph.children) if self.pauses[target].subtree else set()
        return below | {target}

    def _end_pause(self, target: int) -> None:
        if target in self.pauses:
            held = self.paused_by(target)
            del self.pauses[target]
            for number in held:
                self.states[number].pauses -= 1
                self._reschedule(number)

    def _forget_attempts(self, state: ProjectState) -> None:
        if state.failure is not None:
            state.failure = replace(state.failure, attempts=0, cancelled=False, given_up=False)

    def _is_external(self, number: int) -> bool:
        return self.graph.sources[number].kind == "external"

    def _input(self, name: str) -> int:
        try:
            return self.graph.input_number[name]
        except KeyError:
            raise UnknownSourceError(
                f"{name!r} is no input of the graph; read only what it refers to"
            ) from None

    def _project(self, id: str) -> int:
        number = self.graph.number_of(id)
        if self._is_external(number):
            raise UnknownSourceError(f"{id!r} is an external image; only projects are built or paused")
        return number
