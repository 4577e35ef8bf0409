"""How every source stands, and who holds up whom.

A source is in the first of these states that applies: `building`, `inactive` (it has no builds), `unknown`
(nothing was observed yet), `cycle` (it is in one), `paused`, `failed`, `blocked` (an ancestor that failed, is
paused, unknown or in a cycle holds it up), `stale`, `fresh`. An external image is `fresh` once it was read,
and `unknown` before. What only waits for others to be built is `stale`, and `blocked_by` names them.
"""

from functools import cached_property
from typing import Literal

import msgspec

from imagechain.chain.chain import Chain
from imagechain.chain.reasons import reasons
from imagechain.chain.state import LastBuild, Pause
from imagechain.chain.values import Reason, SourceKind

State = Literal["fresh", "stale", "building", "blocked", "failed", "paused", "cycle", "inactive", "unknown"]
#: Ancestors that one source's `blocked_by` names.
BLOCKERS_MAX = 16


class SourceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """How one source stands; the fields are those of `/api/v1/status`."""

    id: str
    kind: SourceKind
    state: State
    reasons: tuple[Reason, ...] = ()
    #: The ancestors that it waits for in the end: ids, at most `BLOCKERS_MAX`.
    blocked_by: tuple[str, ...] = ()
    #: Present version of its first image.
    version: str | None = None
    #: When what the state tells of began; None: unknown.
    since: float | None = None
    last_build: LastBuild | None = None


def status(chain: Chain) -> tuple[SourceStatus, ...]:
    """Tell how every source stands, by id."""
    survey = Survey(chain)
    return tuple(survey.status_of(number) for number in range(len(chain.graph.ids)))


def describe_pause(target: str | None, pause: Pause) -> str:
    """Say who paused what, and why; no target: everything."""
    text = f"{pause.by or 'a person'} paused {target or 'everything'}"
    return f"{text} ({pause.reason})" if pause.reason else text


class Survey:
    """Answers about sources that need more than one look at the graph, each found once."""

    def __init__(self, chain: Chain) -> None:
        self._chain = chain
        self._blockers: dict[int, tuple[int, ...]] = {}

    def status_of(self, number: int) -> SourceStatus:
        """Tell how one source stands."""
        graph, facts = self._chain.graph, self._chain.facts
        state = self.state_of(number)
        return SourceStatus(
            id=graph.ids[number],
            kind=graph.sources[number].kind,
            state=state,
            reasons=reasons(self._chain, number),
            blocked_by=tuple(graph.ids[blocker] for blocker in self.blockers_of(number)),
            version=facts.versions[graph.outputs[number][0]],
            since=self._since(number, state),
            last_build=facts.states[number].last_build,
        )

    def state_of(self, number: int) -> State:
        """Name the state of a source."""
        facts, state = self._chain.facts, self._chain.facts.states[number]
        if facts.is_external(number):
            return "unknown" if facts.versions[self._chain.graph.outputs[number][0]] is None else "fresh"
        if state.runs:
            return "building"
        if state.is_inactive:
            return "inactive"
        if not state.is_observed:
            return "unknown"
        if self._chain.graph.component[number] >= 0:
            return "cycle"
        if facts.is_paused(number):
            return "paused"
        if state.failure is not None:
            return "failed"
        if any(self.fault_of(blocker) is not None for blocker in self.blockers_of(number)):
            return "blocked"
        is_proven_stale = state.record is not None and bool(state.record.proven_stale)
        return "stale" if state.is_stale or is_proven_stale else "fresh"

    def fault_of(self, number: int) -> State | None:
        """Tell whether a project holds up others in a way that does not pass by itself, and how."""
        facts, state = self._chain.facts, self._chain.facts.states[number]
        if state.is_at_rest or state.runs:
            return None
        if not state.is_observed:
            return "unknown"
        if facts.cycle_gaps(number):
            return "cycle"
        if facts.is_paused(number):
            return "paused"
        return "failed" if state.failure is not None else None

    def blockers_of(self, number: int) -> tuple[int, ...]:
        """Find the ancestors that a source waits for: those at fault, and those that wait for nobody."""
        graph, found = self._chain.graph, self._blockers
        to_find = [number]
        while to_find:
            current = to_find[-1]
            parents = [
                parent
                for parent in graph.outer(current, graph.parents)
                if not self._chain.facts.states[parent].is_settled
            ]
            missing = [parent for parent in parents if parent not in found]
            if missing:
                to_find.extend(missing)
                continue
            to_find.pop()
            blockers: set[int] = set()
            for parent in parents:
                blockers.update(found[parent])
                if not found[parent] or self.fault_of(parent) is not None:
                    blockers.add(parent)
            found[current] = tuple(sorted(blockers)[:BLOCKERS_MAX])
        return found[number]

    def pauses_of(self, number: int) -> tuple[tuple[str | None, Pause], ...]:
        """Find the pauses that hold a project, each with the id of its source; None: the pause of all."""
        graph, facts = self._chain.graph, self._chain.facts
        of_all = ((None, facts.pause_of_all),) if facts.pause_of_all is not None else ()
        return of_all + tuple((graph.ids[n], facts.pauses[n]) for n in self._paused_by.get(number, ()))

    @cached_property
    def _paused_by(self) -> dict[int, list[int]]:
        paused_by: dict[int, list[int]] = {}
        for target in sorted(self._chain.facts.pauses):
            for number in self._chain.facts.held_by(target):
                paused_by.setdefault(number, []).append(target)
        return paused_by

    def _since(self, number: int, shown: State) -> float | None:
        facts, state = self._chain.facts, self._chain.facts.states[number]
        if facts.is_external(number):
            key = self._chain.graph.outputs[number][0]
            return None if facts.versions[key] is None else facts.changed_at[key]
        if shown == "building":
            return min(run.at for run in state.runs.values())
        if shown == "paused":
            return min(pause.at for _, pause in self.pauses_of(number))
        if shown == "failed" and state.failure is not None:
            return state.failure.since
        moved_at = [facts.changed_at[key] for key, _, _ in facts.moved(number)]
        asked_at = [state.ask.at] if state.ask is not None and state.is_asked else []
        built_at = state.record.at if state.record is not None and state.record.at > 0.0 else None
        return min([*moved_at, *asked_at], default=built_at)
