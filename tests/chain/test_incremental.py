"""The incremental chain and the naive oracle must agree after every observation, whatever is observed."""

from collections.abc import Sequence
from math import inf

import networkx as nx
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from chain.oracle import Oracle
from chain.world import graphs
from imagechain.chain import (
    BuildFinished,
    BuildStarted,
    Chain,
    Dependency,
    FailBuild,
    GivenUp,
    GiveUp,
    Graph,
    ImageFound,
    Observation,
    Paused,
    Policy,
    RebuildAsked,
    Resumed,
    RetryAsked,
    Source,
    StartBuild,
    VersionRead,
    WentInactive,
    decide,
    explain,
    plan,
    status,
)

VERSIONS = st.sampled_from(["v1", "v2", "v3"])
MAYBE_VERSIONS = st.one_of(st.none(), VERSIONS)
PICKS = st.integers(0, 10_000)
#: How wrong the clock is of who tells of builds; None: nobody tells.
CLOCKS = st.sampled_from([None, None, 0.0, -500.0, 500.0])
#: Mostly forward; sometimes a message is late.
DELAYS = st.sampled_from([0.0, 1.0, 1.0, 30.0, 200.0, -1.0, -50.0])


class ChainAndOracle(RuleBasedStateMachine):
    @initialize(
        made=graphs(),
        quiet_seconds=st.sampled_from([0.0, 20.0]),
        retry_seconds=st.sampled_from([(), (0.0, 40.0)]),
        hold_max_seconds=st.sampled_from([None, 100.0]),
        builds_max=st.sampled_from([1, 2, 99]),
        starts_per_minute_max=st.sampled_from([None, 2]),
    )
    def begin(self, made: tuple[list[Source], list[Dependency]], **fields: object) -> None:
        policy = Policy(build_max_seconds=150.0, **fields)  # type: ignore[arg-type]
        self.graph = Graph(*made)
        self.chain = Chain(self.graph, policy)
        self.oracle = Oracle(*made, policy)
        self.projects = [source.id for source in self.graph.sources if source.kind == "project"]
        self.time = 1_000.0
        self.started: list[tuple[float, bool]] = []
        self.history: list[Observation] = []

    def apply(self, seen: Observation) -> None:
        self.chain.apply(seen)
        self.oracle.apply(seen)
        self.history.append(seen)

    def at(self, delay: float) -> float:
        self.time += max(delay, 0.0)
        return self.time + min(delay, 0.0)

    def project(self, pick: int) -> str:
        return self.projects[pick % len(self.projects)]

    def inputs(self, name: str, versions: list[str], take: int) -> dict[str, str]:
        """Give some of a project's inputs some versions."""
        names = [key for place, key in enumerate(self.graph.inputs_of(name)) if take >> place & 1]
        return {key: versions[place % len(versions)] for place, key in enumerate(names)}

    def outputs(self, name: str, version: str | None) -> dict[str, str | None]:
        return {} if version is None else dict.fromkeys(self.oracle.outputs(name), version)

    @rule(pick=PICKS, version=MAYBE_VERSIONS, delay=DELAYS)
    def read_a_version(self, pick: int, version: str | None, delay: float) -> None:
        names = self.graph.input_names
        if names:
            self.apply(VersionRead(input=names[pick % len(names)], version=version, at=self.at(delay)))

    @precondition(lambda self: self.projects)
    @rule(
        pick=PICKS, delay=DELAYS, versions=st.lists(VERSIONS, min_size=1, max_size=3), take=st.integers(0, 31)
    )
    def find_a_record(self, pick: int, delay: float, versions: list[str], take: int) -> None:
        name = self.project(pick)
        self.apply(ImageFound(project=name, at=self.at(delay), inputs=self.inputs(name, versions, take)))

    @precondition(lambda self: self.projects)
    @rule(pick=PICKS, delay=DELAYS, adopt=st.booleans(), take=st.integers(0, 3))
    def find_an_image(self, pick: int, delay: float, adopt: bool, take: int) -> None:
        name = self.project(pick)
        proven = tuple(self.inputs(name, ["-"], take)) if adopt else ()
        self.apply(ImageFound(project=name, at=self.at(delay), inputs=None, adopt=adopt, proven_stale=proven))

    @precondition(lambda self: self.projects)
    @rule(
        pick=PICKS,
        build=st.integers(0, 9),
        delay=DELAYS,
        take=st.integers(0, 3),
        versions=st.lists(VERSIONS, min_size=1),
    )
    def start_a_build(self, pick: int, build: int, delay: float, take: int, versions: list[str]) -> None:
        name = self.project(pick)
        inputs = self.inputs(name, versions, take) or None
        self.apply(BuildStarted(project=name, build=f"{name}#{build}", at=self.at(delay), inputs=inputs))

    @precondition(lambda self: self.projects)
    @rule(
        pick=PICKS,
        build=st.integers(0, 9),
        delay=DELAYS,
        outcome=st.sampled_from(["success", "success", "failed", "cancelled"]),
        label=st.one_of(st.none(), st.lists(VERSIONS, min_size=1)),
        take=st.integers(0, 31),
        output=MAYBE_VERSIONS,
        clock=CLOCKS,
    )
    def finish_a_build(
        self,
        *,
        pick: int,
        build: int,
        delay: float,
        outcome: str,
        label: list[str] | None,
        take: int,
        output: str | None,
        clock: float | None,
    ) -> None:
        name = self.project(pick)
        at = self.at(delay)
        running = sorted(self.oracle.facts[name].runs) or [f"{name}#{build}"]
        self.apply(
            BuildFinished(
                project=name,
                build=running[build % len(running)],
                at=at,
                told_at=None if clock is None else at + clock,
                outcome=outcome,  # type: ignore[arg-type]
                inputs=None if label is None else self.inputs(name, label, take),
                proven=self.inputs(name, ["v1"], take) if label is None else {},
                outputs=self.outputs(name, output),
            )
        )

    @precondition(lambda self: self.projects)
    @rule(pick=PICKS, delay=DELAYS, what=st.sampled_from([WentInactive, RebuildAsked, RetryAsked, GivenUp]))
    def say_something_of_a_project(self, pick: int, delay: float, what: type[WentInactive]) -> None:
        self.apply(what(project=self.project(pick), at=self.at(delay)))

    @rule(pick=st.one_of(st.none(), PICKS), delay=DELAYS, subtree=st.booleans(), on=st.booleans())
    def pause_or_resume(self, pick: int | None, delay: float, subtree: bool, on: bool) -> None:
        target = None if pick is None else self.graph.ids[pick % len(self.graph.ids)]
        at = self.at(delay)
        self.apply(Paused(project=target, at=at, subtree=subtree) if on else Resumed(project=target, at=at))

    @rule(pick=PICKS)
    def repeat_a_message(self, pick: int) -> None:
        if self.history:
            self.apply(self.history[pick % len(self.history)])

    @rule(delay=st.sampled_from([0.0, 30.0, 200.0]))
    def do_what_is_decided(self, delay: float) -> None:
        self.time += delay
        for action in decide(self.chain, self.time).actions:
            match action:
                case StartBuild():
                    name = f"{action.project}#{len(self.history)}"
                    inputs = action.inputs
                    self.apply(BuildStarted(project=action.project, build=name, at=self.time, inputs=inputs))
                case FailBuild():
                    self.apply(
                        BuildFinished(
                            project=action.project, build=action.build, at=self.time, outcome="failed"
                        )
                    )
                case GiveUp():
                    self.apply(GivenUp(project=action.project, at=self.time))

    @invariant()
    def stale_settled_and_reasons_are_those_of_the_oracle(self) -> None:
        for number, name in enumerate(self.graph.ids):
            state = self.chain.facts.states[number]
            assert state.is_settled == self.oracle.is_settled(name), name
            assert state.is_stale == self.oracle.is_stale(name), name
            unsettled = [parent for parent in self.oracle.parents(name) if not self.oracle.is_settled(parent)]
            assert state.waits == len(unsettled), name
        for shown in status(self.chain):
            reasons = {(reason.kind, reason.input, reason.before, reason.after) for reason in shown.reasons}
            assert reasons == self.oracle.reasons(shown.id), shown.id

    @invariant()
    def what_is_started_is_what_the_oracle_would_start(self) -> None:
        for now in (self.time, self.time + 25.0, self.time - 10.0):
            decision = decide(self.chain, now)
            assert decide(self.chain, now) == decision
            assert [a for a in decision.actions if isinstance(a, StartBuild)] == decide_starts(self, now)
            some, others = self.projects[::2], self.projects[1::2]
            for held, last, starting in (some, (), 0), (others, some[1:], 1), ((), others, 2):
                said = decide(self.chain, now, held=set(held), last=set(last), starting=starting)
                starts = [a for a in said.actions if isinstance(a, StartBuild)]
                assert starts == decide_starts(self, now, held, last, starting)
            assert {a for a in decision.actions if isinstance(a, FailBuild)} == {
                FailBuild(project=name, build=build)
                for name, facts in self.oracle.facts.items()
                for build, (at, _) in facts.runs.items()
                if at + self.chain.facts.policy.build_max_seconds <= now
            }
            assert {a.project for a in decision.actions if isinstance(a, GiveUp)} == given_up(self, now)

    @invariant()
    def nothing_changes_before_the_next_wake_up(self) -> None:
        decision = decide(self.chain, self.time)
        if not decision.actions:
            end = self.time + 10_000.0 if decision.wake_at is None else decision.wake_at
            assert end > self.time
            for part in (0.25, 0.5, 0.999):
                assert decide(self.chain, self.time + (end - self.time) * part).actions == ()
            if decision.wake_at is not None:
                assert decide(self.chain, decision.wake_at) != decision

    @invariant()
    def who_is_blocked_is_blocked_by_an_unsettled_ancestor(self) -> None:
        for shown in status(self.chain):
            unsettled = {
                name for name in nx.ancestors(self.oracle.whole, shown.id) if not self.oracle.is_settled(name)
            }
            assert set(shown.blocked_by) <= unsettled
            waits = any(not self.oracle.is_settled(parent) for parent in self.oracle.parents(shown.id))
            assert bool(shown.blocked_by) == waits
            told = explain(self.chain, shown.id, self.time)
            assert told.status == shown
            for blocker in told.blockers:
                assert blocker.path[0] == blocker.id
                assert blocker.path[-1] == shown.id
                assert all(
                    self.oracle.whole.has_edge(a, b)
                    for a, b in zip(blocker.path, blocker.path[1:], strict=False)
                )

    @invariant()
    def what_may_start_is_in_the_first_wave_of_the_plan(self) -> None:
        if any(facts.given_up for facts in self.oracle.facts.values()):
            return  # The plan lets a project that was given up go first if it will be retried.
        planned = {build.id: build for build in plan(self.chain)}
        for name in self.projects:
            if self.oracle.due_at(name) < inf:
                assert planned[name].wave == 1


def decide_starts(
    machine: ChainAndOracle,
    now: float,
    held: Sequence[str] = (),
    last: Sequence[str] = (),
    starting: int = 0,
) -> list[StartBuild]:
    """Decide which builds to start, naively: look at all projects, sort them, take as many as are allowed."""
    oracle, policy = machine.oracle, machine.chain.facts.policy
    due = [name for name in machine.projects if oracle.due_at(name) <= now and name not in held]
    remaining = dict(zip(machine.graph.ids, machine.graph.remaining_seconds({}), strict=True))
    due.sort(key=lambda name: (name in last, not oracle.facts[name].asked, -remaining[name], name))
    free = policy.builds_max - sum(len(facts.runs) for facts in oracle.facts.values()) - starting
    if policy.starts_per_minute_max is not None:
        starts = sorted(machine.chain.facts.recent_starts)
        free = min(free, policy.starts_per_minute_max - sum(at + 60 > now for at in starts) - starting)
    decision = decide(machine.chain, now, held=set(held), last=set(last), starting=starting)
    expected = {a.project: a for a in decision.actions if isinstance(a, StartBuild)}
    found = []
    for name in due[: max(free, 0)]:
        assert name in expected, name
        assert expected[name].inputs == {k: v for k, v in oracle.now(name).items() if v is not None}
        found.append(expected[name])
    return found


def given_up(machine: ChainAndOracle, now: float) -> set[str]:
    hold_max_seconds = machine.chain.facts.policy.hold_max_seconds
    return {
        name
        for name, facts in machine.oracle.facts.items()
        if hold_max_seconds is not None
        and facts.failing
        and (facts.attempts or facts.cancelled)
        and not facts.given_up
        and not facts.runs
        and facts.failing_since + hold_max_seconds <= now
    }


TestChainAndOracle = ChainAndOracle.TestCase
TestChainAndOracle.settings = settings(
    max_examples=150, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
