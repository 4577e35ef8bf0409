"""What to do now: `decide(chain, now)` is a pure function of the facts, the policy and the time.

What the shell is about to start, and what it knows that it cannot start now, it may say beside.

It never changes the chain: called twice, it says the same twice. The shell does what it says, reports back
with observations (`BuildStarted` for each `StartBuild`), and decides again. It reads the queues of the chain
from their front, so a decision costs what it starts, not what there is.
"""

from collections.abc import Collection, Iterator
from heapq import merge
from itertools import islice, takewhile

from imagechain.chain.chain import Chain
from imagechain.chain.policy import window_opens_at
from imagechain.chain.reasons import reasons
from imagechain.chain.values import Action, Decision, FailBuild, GiveUp, StartBuild

_PACE_SECONDS = 60.0


def decide(
    chain: Chain,
    now: float,
    *,
    held: Collection[str] = frozenset(),
    last: Collection[str] = frozenset(),
    starting: int = 0,
) -> Decision:
    """Say what to do at this time, and when to decide again if nothing is observed before.

    Args:
        chain: what is known.
        now: Unix seconds.
        held: ids of projects that are not to be started now.
        last: ids of projects that go after all others.
        starting: how many builds are being started that the chain does not know of yet.
    """
    failed, next_failed = _overdue_builds(chain, now)
    given_up, next_given_up = _given_up(chain, now)
    started, next_start = _starts(chain, now, held, last, starting)
    wakes = [at for at in (next_failed, next_given_up, next_start) if at is not None]
    return Decision(actions=(*failed, *given_up, *started), wake_at=min(wakes, default=None))


def _overdue_builds(chain: Chain, now: float) -> tuple[list[Action], float | None]:
    actions: list[Action] = []
    next_at: float | None = None
    build_max_seconds = chain.facts.policy.build_max_seconds
    for (oldest_at,), number in chain.agenda.running.ordered():
        if oldest_at + build_max_seconds > now:
            return actions, _sooner(next_at, oldest_at + build_max_seconds)
        for run in chain.facts.states[number].runs.values():
            ends_at = run.at + build_max_seconds
            if ends_at <= now:
                actions.append(FailBuild(project=chain.graph.ids[number], build=run.build))
            else:
                next_at = _sooner(next_at, ends_at)
    return actions, next_at


def _given_up(chain: Chain, now: float) -> tuple[list[Action], float | None]:
    hold_max_seconds = chain.facts.policy.hold_max_seconds
    actions: list[Action] = []
    if hold_max_seconds is not None:
        for (since,), number in chain.agenda.failing.ordered():
            if since + hold_max_seconds > now:
                return actions, since + hold_max_seconds
            actions.append(GiveUp(project=chain.graph.ids[number]))
    return actions, None


def _starts(
    chain: Chain, now: float, held: Collection[str], last: Collection[str], starting: int
) -> tuple[list[Action], float | None]:
    if chain.facts.pause_of_all is not None or (
        chain.agenda.ready.first() is None and chain.agenda.waiting.first() is None
    ):
        return [], None
    opens_at = window_opens_at(chain.facts.policy, now)
    if opens_at > now:
        return [], opens_at
    free = chain.facts.policy.builds_max - chain.facts.builds_count - starting
    if free <= 0:
        return [], None
    pace, paced_until = _pace(chain, now, starting)
    candidates = (
        number
        for is_last in (False, True)[: 1 + bool(last)]
        for number in _candidates(chain, now)
        if chain.graph.ids[number] not in held and (chain.graph.ids[number] in last) == is_last
    )
    actions: list[Action] = [_start(chain, number) for number in islice(candidates, min(free, pace))]
    if len(actions) == free:
        return actions, None
    if len(actions) == pace and next(candidates, None) is not None:
        return actions, paced_until
    return actions, _next_due(chain, now)


def _pace(chain: Chain, now: float, starting: int) -> tuple[int, float | None]:
    """Tell how many builds may be started now, and when the next one may if that is none."""
    starts_max = chain.facts.policy.starts_per_minute_max
    if starts_max is None:
        return chain.facts.policy.builds_max, None
    recent = [at for at in chain.facts.recent_starts if at + _PACE_SECONDS > now]
    free = max(starts_max - len(recent) - starting, 0)
    return free, recent[0] + _PACE_SECONDS if recent else None


def _candidates(chain: Chain, now: float) -> Iterator[int]:
    """Give what may start at this time, those who go first in front."""
    ready = (entry for entry in chain.agenda.ready.ordered() if chain.agenda.due[entry[1]] <= now)
    waited: list[tuple[tuple[float, float], int]] = sorted(
        (chain.facts.priority(number), number)
        for _, number in takewhile(lambda entry: entry[0][0] <= now, chain.agenda.waiting.ordered())
    )
    return (number for _, number in merge(ready, waited))


def _next_due(chain: Chain, now: float) -> float | None:
    """Tell when the next project may start that may not start yet."""
    waiting = next((key[0] for key, _ in chain.agenda.waiting.ordered() if key[0] > now), None)
    # Ready by the time of an observation that lies ahead of this decision's time.
    ahead = min(
        (
            chain.agenda.due[number]
            for _, number in chain.agenda.ready.ordered()
            if chain.agenda.due[number] > now
        ),
        default=None,
    )
    return _sooner(waiting, ahead)


def _start(chain: Chain, number: int) -> StartBuild:
    graph = chain.graph
    known = ((graph.input_names[key], chain.facts.versions[key]) for key in graph.inputs[number])
    return StartBuild(
        project=graph.ids[number],
        inputs={name: version for name, version in known if version is not None},
        reasons=reasons(chain, number),
    )


def _sooner(one: float | None, other: float | None) -> float | None:
    if one is None or other is None:
        return other if one is None else one
    return min(one, other)
