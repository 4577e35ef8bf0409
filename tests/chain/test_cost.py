"""Invariant 7: an observation and a decision cost what they affect, however large the rest of the graph is.

Cost is counted in calls, not in seconds, so the tests give the same answer on every machine.
"""

import sys
from collections.abc import Callable
from functools import partial

from chain.world import edge, fail, finish, image, immediate, move, project, settle, start
from imagechain.chain import Chain, Graph, Paused, Policy, RebuildAsked, Resumed, decide

SIZES = (300, 3_000)


def calls_of(act: Callable[[], object]) -> int:
    """Count the calls that an act makes, of Python and of C functions."""
    count = 0

    def note(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        act()
    finally:
        sys.setprofile(None)
    return count


def made(rest: int, policy: Policy | None = None) -> Chain:
    """A base with ten children of one child each, beside a rest of as many more on a base of their own."""
    names, edges = ["base", "root"], []
    for number in range(10):
        names += [f"a{number}", f"b{number}"]
        edges += [edge(f"a{number}", "base"), edge(f"b{number}", f"a{number}")]
    for number in range(rest):
        names += [f"x{number}", f"y{number}"]
        edges += [edge(f"x{number}", "root"), edge(f"y{number}", f"x{number}")]
    return settle(Chain(Graph(map(project, names), edges), policy or immediate(builds_max=4)))


def cascade(chain: Chain) -> list[int]:
    """Count the calls of each step of a cascade below the base."""

    def step(number: int) -> None:
        for action in decide(chain, 10.0 + number).actions:
            start(chain, action.project, f"{action.project}#1", 10.0 + number)
            finish(chain, action.project, f"{action.project}#1", 10.0 + number, "v1")

    counts = [calls_of(lambda: move(chain, image("base"), "v1", at=1))]
    counts += [calls_of(partial(step, number)) for number in range(6)]
    counts.append(calls_of(lambda: chain.apply(Paused(project="base", at=20, subtree=True))))
    counts.append(calls_of(lambda: chain.apply(Resumed(project="base", at=21))))
    return counts


def test_a_cascade_costs_the_same_in_a_graph_ten_times_as_large() -> None:
    small, large = (cascade(made(rest)) for rest in SIZES)
    assert sum(small) > 1_000
    assert large == small


def test_a_decision_costs_what_it_starts_not_what_could_start() -> None:
    counts = []
    for rest in SIZES:
        chain = made(rest)
        move(chain, image("root"), "v1", at=1)
        counts.append(calls_of(partial(decide, chain, 1)))
    assert counts[1] < counts[0] * 1.2


def failing(rest: int) -> Chain:
    """A chain of which many projects failed at 1, and may be tried again at 101."""
    chain = made(rest, immediate(builds_max=4, retry_seconds=(100.0,)))
    for number in range(rest):
        chain.apply(RebuildAsked(project=f"x{number}", at=1))
        fail(chain, f"x{number}", "refused", 1)
    return chain


def test_a_decision_does_not_look_again_at_what_has_become_due() -> None:
    counts = []
    for rest in SIZES:
        chain = failing(rest)
        move(chain, image("base"), "v0", at=200)
        counts.append(calls_of(partial(decide, chain, 200)))
    assert counts[1] < counts[0] * 1.2


def test_a_decision_does_not_look_at_what_may_not_start_yet() -> None:
    counts = []
    for rest in SIZES:
        chain = failing(rest)
        assert decide(chain, 50).wake_at == 101
        counts.append(calls_of(partial(decide, chain, 50)))
    assert counts[1] == counts[0]


def test_an_observation_in_the_middle_costs_what_is_below_it() -> None:
    chain = made(SIZES[1])
    leaf = calls_of(lambda: move(chain, image("b1"), "v1", at=1))
    middle = calls_of(lambda: move(chain, image("a1"), "v1", at=1))
    base = calls_of(lambda: move(chain, image("base"), "v1", at=1))
    root = calls_of(lambda: move(chain, image("root"), "v1", at=1))
    assert leaf < middle < base < root
    assert base < 20 * middle
