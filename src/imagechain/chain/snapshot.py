"""What a chain knows, as one value by names: to be kept over a restart, or carried to a new graph.

A rescan gives a new graph. What was observed stays true of the sources and inputs that both graphs have;
what only the old one has is forgotten, and what only the new one has is unknown. A project that is now built
from something else is stale by it, after the quiet period: the push that changed its files starts a pipeline
of its own, which is to be seen first.
"""

from collections.abc import Callable, Mapping
from math import inf
from typing import TypeVar

import msgspec

from imagechain.chain.facts import Facts
from imagechain.chain.graph import Graph
from imagechain.chain.state import Ask, Failure, LastBuild, Pause, ProjectState, Record, Run

_Value = TypeVar("_Value", bound=msgspec.Struct)


class InputSnapshot(msgspec.Struct, frozen=True, array_like=True):
    """What is known of one input; the fields are those of `Facts`."""

    version: str | None
    before: str | None
    changed_at: float
    read_at: float


class RecordSnapshot(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A `Record`, by the names of inputs."""

    at: float
    told_at: float | None = None
    versions: Mapping[str, str | None]
    is_known: bool = True
    is_adopted: bool = False
    proven_stale: tuple[str, ...] = ()


class RunSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A `Run`, by the names of inputs."""

    build: str
    at: float
    versions: Mapping[str, str | None]


class ProjectSnapshot(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is known of one project; the fields are those of `ProjectState`."""

    record: RecordSnapshot | None = None
    runs: tuple[RunSnapshot, ...] = ()
    ended: tuple[str, ...] = ()
    failure: Failure | None = None
    last_build: LastBuild | None = None
    ask: Ask | None = None
    is_inactive: bool = False
    rewired_at: float = -inf


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """All that a chain was told, as far as it counts still."""

    inputs: Mapping[str, InputSnapshot]
    projects: Mapping[str, ProjectSnapshot]
    #: Pauses by source, and the times at which earlier ones ended; the key "" stands for the pause of all.
    pauses: Mapping[str, Pause]
    resumed_at: Mapping[str, float]
    recent_starts: tuple[float, ...]


#: A project of which nothing is known.
_NOTHING = ProjectSnapshot()


def read_facts(facts: Facts, resumed_at: Mapping[int | None, float]) -> Snapshot:
    """Put facts under their names."""
    graph = facts.graph
    projects = {
        graph.ids[number]: _read_state(graph, number, state, facts.rewired_at[number])
        for number, state in enumerate(facts.states)
        if not facts.is_external(number)
    }
    pauses = {graph.ids[number]: pause for number, pause in facts.pauses.items()}
    if facts.pause_of_all is not None:
        pauses[""] = facts.pause_of_all
    return Snapshot(
        inputs={
            name: InputSnapshot(
                facts.versions[key], facts.before[key], facts.changed_at[key], facts.read_at[key]
            )
            for key, name in enumerate(graph.input_names)
            if facts.read_at[key] > -inf
        },
        projects={name: project for name, project in projects.items() if project != _NOTHING},
        pauses=pauses,
        resumed_at={"" if n is None else graph.ids[n]: at for n, at in resumed_at.items()},
        recent_starts=tuple(facts.recent_starts),
    )


def fill_facts(facts: Facts, snapshot: Snapshot, at: float) -> set[int]:
    """Put what a snapshot says of a graph's sources and inputs into facts that are empty.

    Gives the numbers of the projects that are built from something else since.

    Args:
        facts: of a chain that was told nothing.
        snapshot: of a chain of this graph, or of an earlier one.
        at: when the graph was read.
    """
    graph, rewired = facts.graph, set()
    for name, seen in snapshot.inputs.items():
        key = graph.input_number.get(name)
        if key is not None:
            facts.versions[key], facts.before[key] = seen.version, seen.before
            facts.changed_at[key], facts.read_at[key] = seen.changed_at, seen.read_at
    for name, project in snapshot.projects.items():
        number = graph.number.get(name)
        if number is None or facts.is_external(number):
            continue
        _fill_state(graph, number, facts.states[number], project)
        names = graph.inputs_of(name)
        is_rewired = project.record is not None and not project.record.versions.keys() >= set(names)
        if is_rewired:
            rewired.add(number)
        facts.rewired_at[number] = at if is_rewired else project.rewired_at
    facts.builds_count = sum(len(state.runs) for state in facts.states)
    facts.recent_starts = list(snapshot.recent_starts)
    return rewired


def latest_at(snapshot: Snapshot) -> float:
    """Tell the latest time in a snapshot: so far the clock had come that it is by."""
    times: list[float] = []

    def note(at: float) -> float:
        times.append(at)
        return at

    _moved(snapshot, note)
    return max(times, default=-inf)


def put_back(snapshot: Snapshot, seconds: float) -> Snapshot:
    """Give what was told by a clock that was ahead in the times of one that is behind it by so much."""
    return _moved(snapshot, lambda at: at - seconds)


def _moved(snapshot: Snapshot, move: Callable[[float], float]) -> Snapshot:
    """Move all times that are by the clock of who decides."""

    def moved(value: _Value, *fields: str) -> _Value:
        times = ((name, getattr(value, name)) for name in fields)
        return msgspec.structs.replace(value, **{name: move(at) for name, at in times if at is not None})

    def moved_project(project: ProjectSnapshot) -> ProjectSnapshot:
        record, failure, last, ask = project.record, project.failure, project.last_build, project.ask
        return msgspec.structs.replace(
            project,
            record=moved(record, "at") if record is not None else None,
            runs=tuple(moved(run, "at") for run in project.runs),
            failure=moved(failure, "since", "at") if failure is not None else None,
            last_build=moved(last, "started_at", "finished_at") if last is not None else None,
            ask=moved(ask, "at") if ask is not None else None,
            rewired_at=move(project.rewired_at),
        )

    return Snapshot(
        inputs={name: moved(seen, "changed_at", "read_at") for name, seen in snapshot.inputs.items()},
        projects={name: moved_project(project) for name, project in snapshot.projects.items()},
        pauses={name: moved(pause, "at") for name, pause in snapshot.pauses.items()},
        resumed_at={name: move(at) for name, at in snapshot.resumed_at.items()},
        recent_starts=tuple(map(move, snapshot.recent_starts)),
    )


def _read_state(graph: Graph, number: int, state: ProjectState, rewired_at: float) -> ProjectSnapshot:
    names = [graph.input_names[key] for key in graph.inputs[number]]
    record = state.record
    return ProjectSnapshot(
        record=None
        if record is None
        else RecordSnapshot(
            at=record.at,
            told_at=record.told_at,
            versions=dict(zip(names, record.versions, strict=True)),
            is_known=record.is_known,
            is_adopted=record.is_adopted,
            proven_stale=tuple(graph.input_names[key] for key in sorted(record.proven_stale)),
        ),
        runs=tuple(
            RunSnapshot(build=run.build, at=run.at, versions=dict(zip(names, run.versions, strict=True)))
            for run in state.runs.values()
        ),
        ended=state.ended,
        failure=state.failure,
        last_build=state.last_build,
        ask=state.ask,
        is_inactive=state.is_inactive,
        rewired_at=rewired_at,
    )


def _fill_state(graph: Graph, number: int, state: ProjectState, project: ProjectSnapshot) -> None:
    names = graph.inputs_of(graph.ids[number])
    record = project.record
    if record is not None:
        state.record = Record(
            at=record.at,
            told_at=record.told_at,
            versions=tuple(record.versions.get(name) for name in names),
            is_known=record.is_known,
            is_adopted=record.is_adopted,
            proven_stale=frozenset(
                graph.input_number[name] for name in record.proven_stale if name in graph.input_number
            ),
        )
    state.runs = {
        run.build: Run(build=run.build, at=run.at, versions=tuple(run.versions.get(name) for name in names))
        for run in project.runs
    }
    state.ended, state.failure, state.last_build = project.ended, project.failure, project.last_build
    state.ask, state.is_inactive = project.ask, project.is_inactive
