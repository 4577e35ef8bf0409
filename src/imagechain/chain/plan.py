"""What would be built, in which order: now, or if one source changed. Nothing starts.

A plan is an upper bound: a build that changes no content ends the cascade below it. What cannot start by
itself (paused, held after failures, unknown, in a cycle that nothing can begin) is left out, with what is
below it.
"""

from collections.abc import Mapping
from math import inf

import msgspec

from imagechain.chain.chain import Chain
from imagechain.chain.reasons import reasons
from imagechain.chain.values import Reason


class PlannedBuild(msgspec.Struct, frozen=True, kw_only=True):
    """One build of a plan."""

    id: str
    #: Builds of one wave do not wait for each other; from 1.
    wave: int
    #: Why it is stale already.
    reasons: tuple[Reason, ...]
    #: Sources whose change, or build before it, makes it stale; itself, if it is what changed.
    because_of: tuple[str, ...]


def plan(chain: Chain, if_changed: str | None = None) -> tuple[PlannedBuild, ...]:
    """List what would be built, in order: by waves, and within a wave who goes first.

    Args:
        chain: the facts.
        if_changed: a source: list only what would follow from a change of it, a project's own build included.

    Raises:
        UnknownSourceError: there is no such source.
    """
    changed = None if if_changed is None else chain.graph.number_of(if_changed)
    waves = _waves(chain, changed)
    return tuple(_planned(chain, number, waves, changed) for number in _order(chain, waves))


def followers(chain: Chain, source: str) -> tuple[str, ...]:
    """Name what would be built if a source changed, in order, without the source itself.

    Raises:
        UnknownSourceError: there is no such source.
    """
    changed = chain.graph.number_of(source)
    order = _order(chain, _waves(chain, changed))
    return tuple(chain.graph.ids[number] for number in order if number != changed)


def _waves(chain: Chain, changed: int | None) -> dict[int, int]:
    """Tell in which wave each source is built; an external image that changed is in wave 0."""
    graph, facts = chain.graph, chain.facts
    waves: dict[int, int] = {}
    if changed is not None and facts.is_external(changed):
        waves[changed] = 0
    stuck: set[int] = set()
    for number in graph.order():
        state = facts.states[number]
        if facts.is_external(number) or state.is_inactive:
            continue
        parents = list(graph.outer(number, graph.parents))
        before = [waves[parent] for parent in parents if parent in waves]
        is_moved = bool(before) or number == changed
        is_wanted = is_moved or (changed is None and state.is_stale)
        if not stuck.isdisjoint(parents) or not state.is_observed:
            stuck.add(number)
        elif is_wanted and _can_start(chain, number, is_moved=is_moved):
            waves[number] = 1 + max(before, default=0)
        elif is_moved or not state.is_at_rest:
            stuck.add(number)
    return waves


def _order(chain: Chain, waves: Mapping[int, int]) -> list[int]:
    return sorted(
        (number for number, wave in waves.items() if wave),
        key=lambda number: (waves[number], chain.facts.priority(number), number),
    )


def _can_start(chain: Chain, number: int, *, is_moved: bool) -> bool:
    """Tell whether a project may start when its time has come; what moved is not held by earlier failures."""
    facts = chain.facts
    is_held = facts.retry_at(number) == inf and not is_moved
    return not (is_held or facts.is_paused(number) or facts.cycle_gaps(number))


def _planned(chain: Chain, number: int, waves: dict[int, int], changed: int | None) -> PlannedBuild:
    graph = chain.graph
    moving = [parent for parent in graph.outer(number, graph.parents) if parent in waves]
    if number == changed:
        moving.append(number)
    return PlannedBuild(
        id=graph.ids[number],
        wave=waves[number],
        reasons=reasons(chain, number),
        because_of=tuple(graph.ids[parent] for parent in moving),
    )
