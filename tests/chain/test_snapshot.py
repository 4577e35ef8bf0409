"""A chain that is kept and recalled knows the same, and a new graph takes over what is still true."""

from typing import Literal

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.world import edge, external, fail, graphs, image, immediate, move, project, settle, start, started
from imagechain.chain import (
    BuildFinished,
    BuildStarted,
    Chain,
    Dependency,
    Graph,
    ImageFound,
    Observation,
    Paused,
    RebuildAsked,
    Resumed,
    RetryAsked,
    Snapshot,
    Source,
    VersionRead,
    WentInactive,
    decide,
    latest_at,
    put_back,
    status,
)

Outcome = Literal["success", "failed", "cancelled"]
EDGES = [edge("a", image("base")), edge("b", image("base"))]
POLICY = immediate(quiet_seconds=3.0, retry_seconds=(0.0, 4.0), builds_max=3)


def recalled(chain: Chain, graph: Graph | None = None, at: float = 0.0) -> Chain:
    """Send what a chain knows through bytes, as the store does."""
    data = msgspec.msgpack.encode(chain.snapshot())
    other = Chain(graph or chain.graph, chain.facts.policy)
    other.recall(msgspec.msgpack.decode(data, type=Snapshot), at)
    return other


@st.composite
def observations(draw: st.DrawFn, graph: Graph) -> list[Observation]:
    """Anything that may be observed, in any order, with times that mostly rise."""
    projects = [source.id for source in graph.sources if source.kind == "project"]
    found: list[Observation] = []
    for step in range(draw(st.integers(0, 15))):
        at = float(max(0, step + draw(st.integers(-2, 2))))
        version = draw(st.sampled_from(["v0", "v1", "v2"]))
        found.append(VersionRead(input=draw(st.sampled_from(graph.input_names)), version=version, at=at))
        if not projects:
            continue
        name, build = draw(st.sampled_from(projects)), f"b{draw(st.integers(0, 3))}"
        outcome: Outcome = draw(st.sampled_from(["success", "failed", "cancelled"]))
        inputs = draw(st.sampled_from([None, dict.fromkeys(graph.inputs_of(name), version)]))
        others: list[Observation] = [
            BuildStarted(project=name, build=build, at=at),
            BuildStarted(project=name, build=build, at=at),
            BuildFinished(project=name, build=build, at=at, outcome=outcome, inputs=inputs),
            BuildFinished(project=name, build=build, at=at, outcome=outcome),
            ImageFound(project=name, at=at, inputs=inputs),
            WentInactive(project=name, at=at),
            RebuildAsked(project=name, at=at),
            RetryAsked(project=name, at=at),
            Paused(project=draw(st.sampled_from([name, None])), at=at, subtree=True),
            Resumed(project=draw(st.sampled_from([name, None])), at=at),
        ]
        found.append(draw(st.sampled_from(others)))
    return found


@settings(deadline=None)
@given(st.data(), graphs())
def test_a_recalled_chain_answers_and_goes_on_like_the_one_that_was_kept(
    data: st.DataObject, made: tuple[list[Source], list[Dependency]]
) -> None:
    graph = Graph(*made)
    chain = Chain(graph, POLICY)
    before, after = data.draw(observations(graph)), data.draw(observations(graph))
    for observation in before:
        chain.apply(observation)
    other = recalled(chain)
    assert status(other) == status(chain)
    for observation in after:
        chain.apply(observation)
        other.apply(observation)
        assert status(other) == status(chain)
        for now in (10.0, 20.0):
            assert decide(other, now) == decide(chain, now)


def test_a_new_graph_keeps_what_is_known_of_those_who_stay() -> None:
    old = Graph([project("base"), project("a")], [edge("a", "base")])
    chain = settle(Chain(old, POLICY))
    chain.apply(Paused(project="a", at=0, by="alice", reason="freeze"))
    new = Graph([project("base"), project("a"), project("b")], [edge("a", "base"), edge("b", "a")])
    other = recalled(chain, new, at=5)
    shown = {source.id: source.state for source in status(other)}
    assert shown == {"base": "fresh", "a": "paused", "b": "unknown"}
    move(other, image("base"), "v1", at=6)
    assert started(other, 10) == []
    other.apply(Resumed(project="a", at=7))
    assert started(other, 10) == ["a"]


def test_a_source_that_left_takes_its_pause_and_its_builds_with_it() -> None:
    chain = settle(Chain(Graph([project("base"), project("a")], [edge("a", "base")]), POLICY))
    start(chain, "base", "base#1", 1)
    chain.apply(Paused(project="base", at=1, subtree=True))
    other = recalled(chain, Graph([external("base"), project("a")], [edge("a", image("base"))]), at=2)
    assert other.facts.builds_count == 0
    assert {source.id: source.state for source in status(other)}["a"] == "fresh"


def test_a_project_that_is_built_from_something_new_waits_for_the_pipeline_of_its_push() -> None:
    chain = settle(
        Chain(Graph([project("base"), project("other"), project("a")], [edge("a", "base")]), POLICY)
    )
    graph = Graph(chain.graph.sources, [edge("a", "base"), edge("a", "other")])
    other = recalled(chain, graph, at=100)
    assert [reason.kind for shown in status(other) for reason in shown.reasons] == ["added"]
    assert started(other, 102) == []
    assert decide(other, 102).wake_at == 103
    other.apply(BuildStarted(project="a", build="push", at=101))
    other.apply(BuildFinished(project="a", build="push", at=104, outcome="success"))
    assert started(other, 200) == []
    # Without such a pipeline it is started; a restart does not begin the wait anew.
    assert started(recalled(recalled(chain, graph, at=100), at=150), 150) == ["a"]


def test_a_project_that_failed_is_tried_at_once_when_it_is_built_from_something_new() -> None:
    chain = settle(
        Chain(Graph([project("base"), project("other"), project("a")], [edge("a", "base")]), POLICY)
    )
    move(chain, image("base"), "v1", at=1)
    for attempt in range(5):
        start(chain, "a", f"a#{attempt}", 1)
        fail(chain, "a", f"a#{attempt}", 2)
    assert decide(chain, 1_000).actions == ()
    other = recalled(chain, Graph(chain.graph.sources, [edge("a", "base"), edge("a", "other")]), at=1_000)
    assert started(other, 1_003) == ["a"]


def test_a_held_project_is_held_still_after_a_restart() -> None:
    """The snapshot (5,000 observations later) is recalled with the time of the same scan."""
    sources = [project("base"), project("other"), project("a")]
    before = settle(Chain(Graph(sources, [edge("a", "base")]), immediate(retry_seconds=())))
    graph = Graph(sources, [edge("a", "base"), edge("a", "other")])
    chain = Chain(graph, immediate(retry_seconds=()))
    chain.recall(before.snapshot(), 100.0)
    assert started(chain, 200) == ["a"]
    chain.apply(BuildStarted(project="a", build="1", at=200))
    chain.apply(BuildFinished(project="a", build="1", at=201, outcome="cancelled"))
    assert started(chain, 300) == []
    restarted = Chain(graph, immediate(retry_seconds=()))
    restarted.recall(chain.snapshot(), 100.0)
    assert started(restarted, 300) == []


def test_what_a_clock_told_that_was_ahead_counts_as_if_it_had_been_right() -> None:
    """Decisions at a time are those that the clock that was ahead would have made at its own."""
    chain = settle(Chain(Graph([external("base"), project("a"), project("b")], EDGES), immediate()), at=900.0)
    move(chain, image("base"), "v1", at=1_000.0)
    start(chain, "a", "1", 1_001.0)
    fail(chain, "a", "1", 1_010.0)
    start(chain, "a", "2", 1_011.0)
    fail(chain, "a", "2", 1_020.0)
    for said in (
        Paused(project="b", at=1_025.0),
        Resumed(project="b", at=1_026.0),
        RebuildAsked(project="b", at=1_030.0),
    ):
        chain.apply(said)
    assert latest_at(chain.snapshot()) == 1_030.0
    right = Chain(chain.graph, chain.facts.policy)
    right.recall(put_back(chain.snapshot(), 1_000.0), 0.0)
    assert latest_at(right.snapshot()) == 30.0
    for seconds in (30.0, 79.0, 80.0, 1_000.0):
        then, now = decide(chain, 1_000.0 + seconds), decide(right, seconds)
        assert now.actions == then.actions
        assert now.wake_at == (None if then.wake_at is None else then.wake_at - 1_000.0)
    right.apply(Paused(project="b", at=31.0))
    assert right.facts.pauses
