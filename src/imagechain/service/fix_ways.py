"""The way of a fix: from the image that moved, over the images built from it, to the last container. Pure.

An image *has the fix* of a source that moved if all that it was built from is what that is now, up to the
source. A container has it if its image has, and the container runs the image's present content. What cannot
be told is `unknown`, and never counts as done.
"""

from collections.abc import Iterable, Mapping, Sequence
from math import inf
from typing import Literal

import msgspec

from imagechain.chain import Chain

#: Moves that are told, the latest first.
MOVES_MAX = 100
#: Containers that are named in one list; all are counted.
NAMES_MAX = 100

Has = Literal["yes", "no", "unknown"]


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """A container that runs, as far as it counts here."""

    #: `host/user/name`.
    id: str
    #: The image that it was made from: an input of the graph.
    image: str
    #: Whether it runs what the image is now.
    is_present: bool | None
    #: When it was made, by the service's clock; None: not known.
    since: float | None


class ImageStep(msgspec.Struct, frozen=True, kw_only=True):
    """A source on the way of a fix."""

    source: str
    has: Has
    #: When it was built again; None: not, or it need not be, as nothing that it reads has changed.
    built_at: float | None


class FixWay(msgspec.Struct, frozen=True, kw_only=True):
    """How far a move of a source has come."""

    source: str
    #: When the service learned of it.
    moved_at: float
    #: What is built from it, as far as containers come from there; parents before children.
    images: tuple[ImageStep, ...]
    #: Containers whose images are built from it.
    containers: int
    containers_done: int
    #: Those that run without it.
    missing: tuple[str, ...]
    missing_count: int
    #: Those of which it cannot be told.
    unknown: tuple[str, ...]
    unknown_count: int
    #: When the first and the latest container came that have it; None: none has, or none had to be made anew.
    first_at: float | None
    last_at: float | None
    #: From the move until every container had it; None: not yet, or not known.
    seconds: float | None
    #: Whether every container has it, or had it once.
    is_done: bool


def fix_ways(chain: Chain, places: Iterable[Place]) -> tuple[FixWay, ...]:
    """Follow the latest moves that concern containers; unfinished ones first, then the latest."""
    ground = _Map(chain, places)
    moved = sorted((at, number) for number in ground.relevant if (at := _moved_at(chain, number)) > -inf)
    ways = [ground.follow(number, at) for at, number in moved[-MOVES_MAX:]]
    return _sorted(ways)


def with_kept(ways: Iterable[FixWay], kept: Iterable[FixWay]) -> tuple[FixWay, ...]:
    """Correct ways by what was told of them before.

    An image that is built again for another reason, and the containers that are made anew then, would make a
    fix look late that they had long before.
    """
    earlier = {(way.source, way.moved_at): way for way in kept}
    joined = []
    for way in ways:
        before = earlier.pop((way.source, way.moved_at), None)
        if before is not None and before.is_done:
            joined.append(before)
        elif before is not None and before.first_at is not None:
            first_at = min(before.first_at, before.first_at if way.first_at is None else way.first_at)
            joined.append(msgspec.structs.replace(way, first_at=first_at))
        else:
            joined.append(way)
    past = [way for way in earlier.values() if way.is_done]
    return _sorted([*joined, *past])[:MOVES_MAX]


def _sorted(ways: Iterable[FixWay]) -> tuple[FixWay, ...]:
    return tuple(sorted(ways, key=lambda way: (way.is_done, -way.moved_at, way.source)))


def _moved_at(chain: Chain, number: int) -> float:
    """Tell when a source moved last, after it was first seen; -inf: never."""
    facts = chain.facts
    return max(
        (
            facts.changed_at[key]
            for key in chain.graph.outputs[number]
            if facts.before[key] is not None and facts.versions[key] is not None
        ),
        default=-inf,
    )


class _Map:
    """The graph, and the containers in their places.

    Attributes:
        relevant: sources that containers come from, and all that these are built from; by number.
    """

    def __init__(self, chain: Chain, places: Iterable[Place]) -> None:
        graph = self._graph = chain.graph
        self._chain = chain
        self._places: dict[int, list[Place]] = {}
        for place in places:
            key = graph.input_number.get(place.image)
            if key is not None and graph.publisher[key] >= 0:
                self._places.setdefault(graph.publisher[key], []).append(place)
        self.relevant = set(self._places)
        frontier = list(self._places)
        while frontier:
            news = set(graph.parents[frontier.pop()]) - self.relevant
            self.relevant |= news
            frontier += news
        self._rank = {number: place for place, number in enumerate(graph.order())}

    def follow(self, source: int, moved_at: float) -> FixWay:
        """Tell how far one move has come."""
        chain, facts = self._chain, self._chain.facts
        below = self._graph.reach(source, self._graph.children) & self.relevant - {source}
        order = [source, *sorted(below, key=self._rank.__getitem__)]
        has: dict[int, Has] = {}
        for number in order:
            has[number] = "yes" if number == source else _has(chain, number, has)
        found: dict[Has, list[str]] = {"yes": [], "no": [], "unknown": []}
        times = []
        for number in order:
            for place in self._places.get(number, ()):
                state = _joined([has[number], _told(place.is_present)])
                found[state].append(place.id)
                is_changed = facts.changed_at[self._graph.input_number[place.image]] >= moved_at
                if state == "yes" and is_changed and place.since is not None:
                    # It may have come before the service looked at the registry.
                    times.append(max(place.since, moved_at))
        count = sum(map(len, found.values()))
        return FixWay(
            source=self._graph.ids[source],
            moved_at=moved_at,
            images=tuple(_step(chain, number, has[number], moved_at) for number in order[1:]),
            containers=count,
            containers_done=len(found["yes"]),
            missing=tuple(sorted(found["no"])[:NAMES_MAX]),
            missing_count=len(found["no"]),
            unknown=tuple(sorted(found["unknown"])[:NAMES_MAX]),
            unknown_count=len(found["unknown"]),
            first_at=min(times, default=None),
            last_at=max(times, default=None),
            seconds=max(times) - moved_at if len(found["yes"]) == count and times else None,
            is_done=len(found["yes"]) == count,
        )


def _has(chain: Chain, number: int, has: Mapping[int, Has]) -> Has:
    """Tell whether the present image of a project has the fix that some of its parents have."""
    graph, facts = chain.graph, chain.facts
    record = facts.states[number].record
    if record is None or not record.is_known or graph.component[number] >= 0:
        return "unknown"
    answers: list[Has] = []
    for key, built_from in zip(graph.inputs[number], record.versions, strict=True):
        parent = graph.publisher[key]
        if parent not in has:
            continue
        present = facts.versions[key]
        if present is None or built_from is None:
            answers.append("unknown")
        elif present != built_from or key in record.proven_stale:
            answers.append("no")
        else:
            answers.append(has[parent])
    return _joined(answers)


def _joined(answers: Sequence[Has]) -> Has:
    """What is missing in one place is missing; what is unknown in one is not known."""
    if "no" in answers:
        return "no"
    return "unknown" if "unknown" in answers or not answers else "yes"


def _told(answer: bool | None) -> Has:
    return "unknown" if answer is None else "yes" if answer else "no"


def _step(chain: Chain, number: int, has: Has, moved_at: float) -> ImageStep:
    record = chain.facts.states[number].record
    is_built = record is not None and not record.is_adopted and record.at >= moved_at
    return ImageStep(
        source=chain.graph.ids[number],
        has=has,
        built_at=record.at if record is not None and is_built and has == "yes" else None,
    )
