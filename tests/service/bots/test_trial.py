"""A trial, against plain walks over the graph."""

import json

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from imagechain.chain import Dependency, Graph, Source
from imagechain.service.bots.trial import RUNNING_MAX, Step, Trial, changed, plan_steps, startable, told
from imagechain.service.ports import TrackedProject

Edges = set[tuple[int, int]]

edges = st.sets(
    st.tuples(st.integers(0, 7), st.integers(0, 7)).filter(lambda edge: edge[0] < edge[1]), max_size=16
)


def graph_of(found: Edges) -> Graph:
    sources = [Source(id=str(number), kind="project", images=(f"r/{number}:latest",)) for number in range(8)]
    return Graph(
        sources,
        [
            Dependency(
                child=str(child),
                parent=str(parent),
                kind="from",
                file="f",
                line=1,
                image=f"r/{parent}:latest",
            )
            for parent, child in found
        ],
    )


def tracked(unable: set[int]) -> dict[str, TrackedProject]:
    return {
        str(number): TrackedProject(
            source=str(number),
            project_id=number + 1,
            ref="main",
            trial="none" if number in unable else "variable",
        )
        for number in range(8)
    }


def below(found: Edges, start: int) -> set[int]:
    reached: set[int] = set()
    todo = [start]
    while todo:
        number = todo.pop()
        for parent, child in found:
            if parent == number and child not in reached:
                reached.add(child)
                todo.append(child)
    return reached


def run(trial: Trial, failing: set[int]) -> list[str]:
    """Carry a trial out; each step's parents must have passed when it starts."""
    started: list[str] = []
    running: list[Step] = []
    while True:
        for ready in startable(trial):
            states = {one.source: one.state for one in trial.steps}
            assert all(states[name] == "passed" for name in ready.parents)
            given_images = json.loads(told(trial, ready))
            assert {f"r/{name}:latest" for name in ready.parents} <= given_images.keys()
            step = msgspec.structs.replace(ready, state="running")
            trial = changed(trial, step)
            started.append(step.source)
            running.append(step)
        assert len(running) <= RUNNING_MAX
        if not running:
            break
        step = running.pop(0)
        if int(step.source) in failing:
            trial = changed(trial, msgspec.structs.replace(step, state="failed"))
        else:
            images = {name: f"{name}@{step.source}" for name in step.publishes}
            trial = changed(trial, msgspec.structs.replace(step, state="passed", images=images))
    assert trial.is_over
    return started


def trial_of(steps: tuple[Step, ...]) -> Trial:
    return Trial(
        id="t",
        project_id=1,
        merge_request=1,
        source="0",
        at=0.0,
        images={"r/0:latest": "r/0@1"},
        steps=steps,
    )


@settings(deadline=None)
@given(edges, st.sets(st.integers(1, 7)), st.sets(st.integers(1, 7)))
def test_everything_above_is_built_once_in_order_unless_something_below_it_failed(
    found: Edges, unable: set[int], failing: set[int]
) -> None:
    steps = plan_steps(graph_of(found), tracked(unable), "0", [])
    expected = below(found, 0)
    if not expected:
        assert isinstance(steps, str)
        return
    assert not isinstance(steps, str)
    assert {int(step.source) for step in steps} == expected
    started = run(trial_of(steps), failing)
    assert len(set(started)) == len(started)
    bad = (unable | failing) & expected
    stopped = set().union(*(below(found, number) for number in bad)) & expected
    assert {int(name) for name in started} == expected - stopped - unable


@settings(deadline=None)
@given(edges, st.integers(1, 7))
def test_of_what_is_named_only_that_and_what_lies_between_is_built(found: Edges, wanted: int) -> None:
    steps = plan_steps(graph_of(found), tracked(set()), "0", [str(wanted)])
    if wanted not in below(found, 0):
        assert isinstance(steps, str)
        assert "not built from" in steps
        return
    assert not isinstance(steps, str)
    between = {number for number in below(found, 0) if wanted in below(found, number)}
    assert {int(step.source) for step in steps} == between | {wanted}
