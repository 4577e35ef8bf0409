"""What came of a change: the builds that followed, and what waits still. Pure, but for reading the chain."""

from collections.abc import Collection, Sequence

import msgspec

from imagechain.store import BuildRow, CascadeRow
from imagechain.web.overview import STATES, Overview, Row

#: Waiting images of one cascade that are listed.
WAITING_MAX = 15


class CascadeView(msgspec.Struct, frozen=True, kw_only=True):
    """A cascade, and what waits still for something that it built."""

    cascade: CascadeRow
    waiting: tuple[Row, ...]
    #: Waiting images that are not listed.
    more: int

    @property
    def latest_at(self) -> float:
        """When one of its builds started or ended last (Unix time in seconds)."""
        times = [time for one in self.cascade.builds for time in (one.started_at, one.finished_at)]
        return max((time for time in times if time is not None), default=self.cascade.started_at)


def view_cascades(overview: Overview, cascades: Sequence[CascadeRow]) -> list[CascadeView]:
    """Find what waits for the builds of cascades, the latest first; it is told once, with the latest."""
    told: set[int] = set()
    views = []
    for cascade in cascades:
        waiting = _waiting(overview, cascade.builds, told)
        told.update(waiting)
        rows = overview.rows(waiting[:WAITING_MAX])
        views.append(CascadeView(cascade=cascade, waiting=rows, more=len(waiting) - len(rows)))
    return views


def _waiting(overview: Overview, builds: Sequence[BuildRow], told: Collection[int]) -> list[int]:
    """Find what is not settled and was built, or is below that with nothing settled between."""
    graph, states = overview.known.chain.graph, overview.known.chain.facts.states
    built = {graph.number[one.source] for one in builds if one.source in graph.number}
    running = {one.source for one in builds if one.finished_at is None}
    seen, frontier = set(built), list(built)
    while frontier:
        for child in graph.children[frontier.pop()]:
            if child not in seen and child not in told and not states[child].is_settled:
                seen.add(child)
                frontier.append(child)
    found = [
        one
        for one in seen
        if one not in told and not states[one].is_settled and graph.ids[one] not in running
    ]
    return sorted(found, key=lambda one: (STATES.index(overview.states[one]), one))
