"""The naive oracle: the same rules, written from the words of the design, for the whole graph from scratch.

It keeps facts in plain dictionaries by name, and derives everything from all of them each time it is asked.
"""

from dataclasses import dataclass, field
from math import inf

import networkx as nx
from msgspec.structs import replace

from imagechain.chain import (
    BUILD_KINDS,
    BuildFinished,
    BuildStarted,
    Dependency,
    GivenUp,
    ImageFound,
    Observation,
    Paused,
    Policy,
    RebuildAsked,
    Resumed,
    RetryAsked,
    Source,
    VersionRead,
    WentInactive,
    files_input,
)
from imagechain.refs import parse_reference

Versions = dict[str, str | None]


@dataclass
class Facts:
    """What was observed of one project."""

    record: Versions | None = None
    record_at: float = -inf
    record_told_at: float | None = None
    record_known: bool = True
    adopted: bool = False
    proven: frozenset[str] = frozenset()
    runs: dict[str, tuple[float, Versions]] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    inactive: bool = False
    asked_at: float = -inf
    asked: bool = False
    failing: bool = False
    failing_since: float = inf
    failed_at: float = -inf
    attempts: int = 0
    cancelled: bool = False
    given_up: bool = False

    def forget_failure(self) -> None:
        self.failing, self.given_up, self.attempts, self.cancelled = False, False, 0, False
        self.failing_since, self.failed_at = inf, -inf


class Oracle:
    def __init__(self, sources: list[Source], dependencies: list[Dependency], policy: Policy) -> None:
        self.policy = policy
        self.sources = {source.id: source for source in sources}
        self.edges = [
            d
            for d in dependencies
            if d.parent is not None and d.needed and d.kind in BUILD_KINDS and "@" not in (d.image or "")
        ]
        whole: nx.DiGraph[str] = nx.DiGraph()
        whole.add_nodes_from(self.sources)
        whole.add_edges_from((str(d.parent), d.child) for d in self.edges)
        self.whole = whole
        self.cycle_of = {
            name: frozenset(members)
            for members in nx.strongly_connected_components(whole)
            for name in members
            if len(members) > 1 or whole.has_edge(name, name)
        }
        self.referred: dict[str, set[str]] = {name: set() for name in self.sources}
        for d in dependencies:
            if d.image is not None and d.parent is not None:
                self.referred[d.parent].add(parse_reference(d.image).identity)
        self.versions: Versions = {}
        self.before: Versions = {}
        self.changed_at: dict[str, float] = {}
        self.read_at: dict[str, float] = {}
        self.facts = {name: Facts() for name in self.sources}
        self.pauses: dict[str | None, tuple[float, bool]] = {}
        self.resumed_at: dict[str | None, float] = {}

    # --- the graph --------------------------------------------------------------------------------------

    def inputs(self, name: str) -> dict[str, str | None]:
        """Give the inputs of a project, each with the source that brings it forth; None for its own files."""
        found: dict[str, str | None] = {}
        for d in self.edges:
            if d.child == name and d.parent is not None:
                for key in [d.image] if d.image is not None else self.declared(d.parent):
                    found[key] = d.parent
        if self.sources[name].kind == "project":
            found[files_input(name)] = None
        return found

    def declared(self, parent: str) -> list[str]:
        images = self.sources[parent].images
        latest = [i for i in images if i.endswith(":latest")]
        return sorted(self.referred[parent]) or latest[:1] or list(images[:1]) or [parent]

    def is_inner(self, name: str, parent: str | None) -> bool:
        return parent is not None and parent in self.cycle_of.get(name, ())

    def parents(self, name: str) -> list[str]:
        return [p for p in self.whole.predecessors(name) if not self.is_inner(name, p)]

    def outputs(self, name: str) -> list[str]:
        return list(self.sources[name].images) or [name]

    # --- what follows from the facts --------------------------------------------------------------------

    def now(self, name: str) -> Versions:
        return {key: self.versions.get(key) for key in self.inputs(name)}

    def compared(self, name: str) -> list[str]:
        """Name the inputs whose versions are compared."""
        return [
            key
            for key, parent in self.inputs(name).items()
            if self.versions.get(key) is not None and not self.is_inner(name, parent)
        ]

    def lost(self, name: str) -> list[str]:
        facts = self.facts[name]
        return [
            key
            for key in self.outputs(name)
            if key in self.read_at
            and self.versions[key] is None
            and not (facts.record is not None and facts.adopted and self.before[key] is None)
        ]

    def reasons(self, name: str) -> set[tuple[str, str, str | None, str | None]]:
        """Give all reasons, the one that is only shown (`proven`) included."""
        facts = self.facts[name]
        found: set[tuple[str, str, str | None, str | None]] = set()
        if facts.inactive or self.sources[name].kind == "external":
            return found
        if facts.asked:
            found.add(("asked", "", None, None))
        if facts.record is None and (self.lost(name) or facts.ended):
            found.add(("never-built", "", None, None))
        else:
            found.update(("missing", key, None, None) for key in self.lost(name))
        if facts.record is not None and not facts.record_known:
            found.add(("no-record", "", None, None))
        elif facts.record is not None:
            for key in self.compared(name):
                before, after = facts.record.get(key), self.versions[key]
                if before != after:
                    added = "added" if before is None else "moved"
                    found.add(("files" if key == files_input(name) else added, key, before, after))
        moved = {reason[1] for reason in found if reason[0] in ("moved", "added", "files")}
        found.update(("proven", key, None, self.versions.get(key)) for key in facts.proven - moved)
        return found

    def is_stale(self, name: str) -> bool:
        return any(reason[0] != "proven" for reason in self.reasons(name))

    def is_observed(self, name: str) -> bool:
        return self.facts[name].record is not None or self.is_stale(name) or self.facts[name].inactive

    def is_settled(self, name: str) -> bool:
        facts = self.facts[name]
        if self.sources[name].kind == "external" or facts.inactive:
            return True
        at_rest = self.is_observed(name) and not facts.runs and (not self.is_stale(name) or facts.given_up)
        return at_rest and all(self.is_settled(parent) for parent in self.parents(name))

    def is_paused(self, name: str) -> bool:
        return any(
            target in (None, name) or (subtree and name in nx.descendants(self.whole, target))
            for target, (_, subtree) in self.pauses.items()
        )

    def due_at(self, name: str) -> float:
        """Tell when a project may start: inf: not while the facts are these."""
        facts = self.facts[name]
        gaps = [
            k for k, p in self.inputs(name).items() if self.is_inner(name, p) and self.versions.get(k) is None
        ]
        if not self.is_stale(name) or facts.runs or self.is_paused(name) or gaps:
            return inf
        if not all(self.is_settled(parent) for parent in self.parents(name)):
            return inf
        due = -inf
        for key, parent in self.inputs(name).items():
            if parent is not None and self.sources[parent].kind == "external":
                moved = any(r[1] == key and r[0] in ("moved", "added") for r in self.reasons(name))
                due = max(due, self.changed_at[key] + self.policy.quiet_seconds) if moved else due
        if facts.failing and facts.cancelled:
            return inf
        if facts.failing and facts.attempts:
            waits = [*self.policy.retry_seconds, *[inf] * facts.attempts]
            due = max(due, facts.failed_at + waits[facts.attempts - 1])
        return due

    # --- the facts --------------------------------------------------------------------------------------

    def apply(self, seen: Observation) -> None:
        match seen:
            case VersionRead():
                self.read(seen.input, seen.version, seen.at)
            case ImageFound():
                self.found(seen)
            case BuildStarted():
                self.started(seen)
            case BuildFinished():
                self.finished(seen)
            case WentInactive():
                facts = self.facts[seen.project]
                facts.inactive = facts.inactive or not (facts.runs or facts.ended)
            case _:
                self.said_by_people(seen)
        for name, facts in self.facts.items():
            if facts.failing and not self.is_stale(name):
                facts.forget_failure()

    def said_by_people(self, seen: Observation) -> None:
        match seen:
            case RebuildAsked():
                if seen.at > self.facts[seen.project].asked_at:
                    self.ask(seen.project, seen.at)
            case RetryAsked():
                facts = self.facts[seen.project]
                if facts.failing and not facts.runs and seen.at >= facts.failed_at:
                    self.ask(seen.project, seen.at)
            case GivenUp():
                facts = self.facts[seen.project]
                facts.given_up = facts.given_up or (facts.failing and not facts.runs)
            case Paused():
                current = self.pauses.get(seen.project, (-inf, False))[0]
                if seen.at >= max(current, self.resumed_at.get(seen.project, -inf)):
                    self.pauses[seen.project] = (seen.at, seen.subtree)
            case Resumed():
                if seen.at >= self.pauses.get(seen.project, (-inf, False))[0]:
                    self.pauses.pop(seen.project, None)
                    self.resumed_at[seen.project] = max(seen.at, self.resumed_at.get(seen.project, -inf))
            case _:
                raise TypeError(seen)

    def read(self, key: str, version: str | None, at: float) -> None:
        if at < self.read_at.get(key, -inf):
            return
        before = self.versions.get(key)
        is_first = key not in self.read_at
        self.read_at[key] = at
        if version == before and not is_first:
            return
        self.versions[key], self.before[key], self.changed_at[key] = version, before, at
        for name, facts in self.facts.items():
            if key in self.inputs(name):
                if facts.adopted and facts.record is not None and facts.record.get(key) is None:
                    facts.record[key] = version
                if version != before and not self.is_inner(name, self.inputs(name)[key]):
                    facts.attempts, facts.cancelled, facts.given_up = 0, False, False

    def found(self, seen: ImageFound) -> None:
        facts = self.facts[seen.project]
        if facts.record is not None and (seen.inputs is None or seen.at < facts.record_at):
            return
        facts.inactive = False
        facts.record_at, facts.record_told_at = seen.at, seen.told_at
        facts.record = dict(seen.inputs) if seen.inputs is not None else self.now(seen.project)
        facts.adopted = seen.inputs is None and seen.adopt
        facts.record_known = seen.inputs is not None or seen.adopt
        facts.proven = frozenset(seen.proven_stale) if seen.inputs is None else frozenset()

    def started(self, seen: BuildStarted) -> None:
        facts = self.facts[seen.project]
        if seen.build in facts.runs or seen.build in facts.ended:
            return
        versions = {
            key: self.versions.get(key) if self.changed_at.get(key, -inf) <= seen.at else self.before[key]
            for key in self.inputs(seen.project)
        }
        facts.runs[seen.build] = (seen.at, versions | dict(seen.inputs or {}))
        facts.inactive = False
        facts.given_up = False

    def finished(self, seen: BuildFinished) -> None:
        facts = self.facts[seen.project]
        if seen.build in facts.ended:
            return
        started_at, versions = facts.runs.pop(seen.build, (None, None))
        seen = replace(seen, at=seen.at if started_at is None else max(seen.at, started_at))
        for key, version in seen.outputs.items():
            self.read(key, version, seen.at)
        facts.ended.add(seen.build)
        facts.inactive = False
        told = (seen.told_at, facts.record_told_at)
        if seen.at < facts.record_at and (None in told or told[0] < told[1]):  # type: ignore[operator]
            return
        was_for_present = versions is not None and all(
            versions.get(key) == self.versions[key] for key in self.compared(seen.project)
        )
        if seen.outcome != "success":
            self.fail(facts, seen, is_past=versions is not None and not was_for_present)
            return
        facts.record_at, facts.record_told_at = max(seen.at, facts.record_at), seen.told_at
        facts.record_known = seen.inputs is not None or versions is not None
        facts.record = dict(seen.inputs) if seen.inputs is not None else (versions or {}) | dict(seen.proven)
        facts.adopted, facts.proven = False, frozenset()
        if started_at is not None and started_at >= facts.asked_at:
            facts.asked = False
        if was_for_present and not facts.asked and self.is_stale(seen.project):
            self.fail(facts, seen, is_past=False)
        elif facts.failed_at <= seen.at:
            facts.forget_failure()

    def fail(self, facts: Facts, seen: BuildFinished, *, is_past: bool) -> None:
        facts.failing = True
        facts.given_up = False
        facts.failing_since = seen.at if facts.failing_since == inf else facts.failing_since
        facts.failed_at = max(facts.failed_at, seen.at)
        facts.attempts = 0 if is_past else facts.attempts + 1
        facts.cancelled = seen.outcome == "cancelled" and not is_past

    def ask(self, name: str, at: float) -> None:
        facts = self.facts[name]
        facts.asked, facts.asked_at = True, at
        facts.attempts, facts.cancelled, facts.given_up = 0, False, False
