"""The invariants of the design (section 3) in a faulty world: hints lost, doubled, late; failures; crashes.

The world is a small GitLab: it knows every build and every image. The shell asks it when a hint arrives, when
it reconciles, and after a crash, when it knows nothing else. Every run follows from its seed.
"""

import hashlib
from dataclasses import dataclass, field
from itertools import pairwise
from random import Random

import networkx as nx
from hypothesis import given, settings
from hypothesis import strategies as st

from chain.test_graph import as_networkx
from chain.world import graphs, immediate
from imagechain.chain import (
    BuildFinished,
    BuildStarted,
    Chain,
    Dependency,
    Graph,
    ImageFound,
    Source,
    StartBuild,
    VersionRead,
    decide,
    status,
)

Made = tuple[list[Source], list[Dependency]]
POLICY = immediate(retry_seconds=(0.0, 5.0, 5.0), builds_max=3)
STEPS_MAX = 2_000


@dataclass
class Build:
    id: str
    started_at: float
    ends_at: float
    inputs: dict[str, str]
    outcome: str
    is_ended: bool = False


@dataclass
class World:
    """The systems of record: images, their labels, and builds."""

    graph: Graph
    random: Random
    #: Projects whose builds always fail, and those whose content never changes.
    broken: frozenset[str] = frozenset()
    constant: frozenset[str] = frozenset()
    failures: float = 0.0
    now: float = 0.0
    versions: dict[str, str] = field(default_factory=dict)
    labels: dict[str, dict[str, str]] = field(default_factory=dict)
    builds: dict[str, list[Build]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.versions = dict.fromkeys(self.graph.input_names, "v0")
        for source in self.graph.sources:
            if source.kind == "project":
                self.builds[source.id] = []
                self.labels[source.id] = self.inputs_now(source.id)

    def inputs_now(self, name: str) -> dict[str, str]:
        return {key: self.versions[key] for key in self.graph.inputs_of(name)}

    def running(self) -> list[tuple[str, Build]]:
        return [
            (name, build) for name, builds in self.builds.items() for build in builds if not build.is_ended
        ]

    def start(self, name: str) -> Build:
        fails = name in self.broken or self.random.random() < self.failures
        build = Build(
            id=f"{name}#{len(self.builds[name])}",
            started_at=self.now,
            ends_at=self.now + self.random.randint(1, 9),
            inputs=self.inputs_now(name),
            outcome="failed" if fails else "success",
        )
        self.builds[name].append(build)
        return build

    def advance(self, until: float) -> list[str]:
        """Let time pass; tell the projects of which a build ended."""
        self.now = until
        ended = []
        for name, build in self.running():
            if build.ends_at <= until:
                build.is_ended = True
                ended.append(name)
                if build.outcome == "success":
                    self.labels[name] = build.inputs
                    content = (
                        "v0" if name in self.constant else content_of(name, self.compared(name, build.inputs))
                    )
                    number = self.graph.number[name]
                    for key in self.graph.outputs[number]:
                        self.versions[self.graph.input_names[key]] = content
        return ended

    def compared(self, name: str, inputs: dict[str, str]) -> dict[str, str]:
        """Leave out what comes from a project's own cycle: it is never compared."""
        members = {m for cycle in self.graph.cycles if name in cycle.members for m in cycle.members}
        own = {self.graph.input_names[k] for m in members for k in self.graph.outputs[self.graph.number[m]]}
        return {key: version for key, version in inputs.items() if key not in own}


def content_of(name: str, inputs: dict[str, str]) -> str:
    return hashlib.sha256(f"{name} {sorted(inputs.items())}".encode()).hexdigest()


class Shell:
    """What the service does around the chain: it asks, decides and acts."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.crash()

    def crash(self) -> None:
        """Lose everything, and begin again with what the world says."""
        self.chain = Chain(self.world.graph, POLICY)
        self.reconcile()

    def reconcile(self) -> None:
        world = self.world
        for name in world.builds:
            self.look_at(name)
        for name, version in world.versions.items():
            self.chain.apply(VersionRead(input=name, version=version, at=world.now))
        for name, label in world.labels.items():
            if all(build.is_ended for build in world.builds[name]):
                self.chain.apply(ImageFound(project=name, at=world.now, inputs=label))

    def look_at(self, name: str) -> None:
        """Follow up a hint: ask for the latest builds of a project, again and again the same ones."""
        for build in self.world.builds[name][-3:]:
            self.chain.apply(
                BuildStarted(project=name, build=build.id, at=build.started_at, inputs=build.inputs)
            )
            if build.is_ended:
                # What it was built from may be newer than what is known: a hint was lost.
                for key in build.inputs:
                    version = self.world.versions[key]
                    self.chain.apply(VersionRead(input=key, version=version, at=self.world.now))
                number = self.world.graph.number[name]
                keys = [self.world.graph.input_names[key] for key in self.world.graph.outputs[number]]
                succeeded = build.outcome == "success"
                self.chain.apply(
                    BuildFinished(
                        project=name,
                        build=build.id,
                        at=build.ends_at,
                        outcome=build.outcome,  # type: ignore[arg-type]
                        inputs=build.inputs if succeeded else None,
                        outputs={key: self.world.versions[key] for key in keys} if succeeded else {},
                    )
                )

    def act(self, crashes: float = 0.0) -> int:
        """Start what is decided; perhaps crash between the act and its note. Tell how many were started."""
        count = 0
        for action in decide(self.chain, self.world.now).actions:
            if isinstance(action, StartBuild):
                assert_ancestors_rest(self.world, action.project)
                build = self.world.start(action.project)
                count += 1
                if self.world.random.random() < crashes:
                    self.crash()
                    return count
                seen = BuildStarted(
                    project=action.project, build=build.id, at=self.world.now, inputs=action.inputs
                )
                self.chain.apply(seen)
        return count


def assert_ancestors_rest(world: World, name: str) -> None:
    """Invariant 1, as far as the world can tell: no ancestor outside its own cycles builds."""
    own = {m for cycle in world.graph.cycles if name in cycle.members for m in cycle.members} | {name}
    tangled = {m for cycle in world.graph.cycles for m in cycle.members}
    building = {name for name, _ in world.running()}
    assert name not in building
    if not tangled & (world.graph.ancestors_of(name) | own):
        assert not building & world.graph.ancestors_of(name)


def finish_all(shell: Shell) -> None:
    """Let everything come to rest without further faults."""
    world = shell.world
    world.failures = 0.0
    shell.reconcile()
    for _ in range(STEPS_MAX):
        if shell.act():
            continue
        ends = [build.ends_at for _, build in world.running()]
        wake_at = decide(shell.chain, world.now).wake_at
        times = [*ends, *([wake_at] if wake_at is not None and wake_at < world.now + 10_000 else [])]
        if not ends and (wake_at is None or not times):
            return
        for name in world.advance(min(times)):
            shell.look_at(name)
    raise AssertionError("the world does not come to rest")


def run(
    made: Made, moves: list[tuple[int, int]], seed: int, *, faulty: bool, broken: frozenset[str]
) -> World:
    """Move inputs at times, with or without faults, and come to rest."""
    random = Random(seed)  # noqa: S311 - every run follows from its seed
    graph = Graph(*made)
    names = [source.id for source in made[0] if source.kind == "project"]
    constant = frozenset(name for place, name in enumerate(names) if place % 4 == 3)
    world = World(graph, random, broken=broken, constant=constant, failures=0.3 if faulty else 0.0)
    shell = Shell(world)
    roots = sorted(
        {
            graph.input_names[key]
            for number, s in enumerate(graph.sources)
            if s.kind == "external"
            for key in graph.outputs[number]
        }
        | {key for name in names for key in graph.inputs_of(name) if key.startswith("files:")}
    )
    late: list[str] = []
    for count, (pick, seconds) in enumerate(moves):
        if roots:
            moved = roots[pick % len(roots)]
            world.versions[moved] = f"v{count + 1}"
            if not faulty or random.random() < 0.5:
                shell.chain.apply(VersionRead(input=moved, version=world.versions[moved], at=world.now))
        for _ in range(seconds):
            late.extend(world.advance(world.now + 1))
            hints, late = late, []
            for name in hints:
                fate = random.random() if faulty else 1.0
                if fate < 0.2:
                    late.append(name)
                elif fate >= 0.4:
                    shell.look_at(name)
            if faulty and random.random() < 0.1:
                shell.crash()
            if faulty and random.random() < 0.1:
                shell.reconcile()
            shell.act(crashes=0.2 if faulty else 0.0)
    finish_all(shell)
    assert_at_rest(shell, broken)
    return world


def assert_at_rest(shell: Shell, broken: frozenset[str]) -> None:
    """Invariant 3: everything ends settled and true, or blocked by a named failure."""
    world = shell.world
    for shown in status(shell.chain):
        number = world.graph.number[shown.id]
        if shell.chain.facts.states[number].is_settled:
            if shown.kind == "project":
                now = world.compared(shown.id, world.inputs_now(shown.id))
                assert world.compared(shown.id, world.labels[shown.id]) == now
        else:
            assert shown.id in broken or (shown.blocked_by and set(shown.blocked_by) <= broken), shown


MOVES = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 6)), min_size=1, max_size=8)


@settings(deadline=None)
@given(
    graphs(),
    MOVES,
    st.integers(0, 2**32),
    st.frozensets(st.sampled_from([f"p{n}" for n in range(7)]), max_size=1),
)
def test_whatever_happens_the_end_is_the_same_as_without_faults(
    made: Made, moves: list[tuple[int, int]], seed: int, broken: frozenset[str]
) -> None:
    """Invariants 1, 3, 4 and 6: the same final versions, whatever was lost, doubled, late or crashed."""
    calm = run(made, moves, seed, faulty=False, broken=broken)
    faulty = run(made, moves, seed, faulty=True, broken=broken)
    # How far those came that wait for a broken project depends on when it blocked them.
    oracle = as_networkx(*made)
    held = {below for name in broken & set(oracle) for below in {name} | nx.descendants(oracle, name)}
    for name in set(calm.builds) - held:
        for key in calm.graph.outputs[calm.graph.number[name]]:
            output = calm.graph.input_names[key]
            assert faulty.versions[output] == calm.versions[output]


@settings(deadline=None)
@given(graphs(), MOVES, st.integers(0, 2**32))
def test_no_build_is_started_twice_and_none_is_forgotten(
    made: Made, moves: list[tuple[int, int]], seed: int
) -> None:
    """Invariant 5: two builds that succeed one after the other were built from different inputs."""
    world = run(made, moves, seed, faulty=True, broken=frozenset())
    for name, builds in world.builds.items():
        succeeded = [world.compared(name, build.inputs) for build in builds if build.outcome == "success"]
        assert all(one != other for one, other in pairwise(succeeded))


@settings(deadline=None)
@given(graphs(acyclic=True, sources_max=9), st.integers(0, 50), st.integers(0, 2**32))
def test_a_change_of_one_source_builds_each_descendant_once_and_nothing_else(
    made: Made, pick: int, seed: int
) -> None:
    """Invariant 2: builds started are the stale descendants, however long each build lasts."""
    graph = Graph(*made)
    world = World(graph, Random(seed))  # noqa: S311 - every run follows from its seed
    shell = Shell(world)
    number = pick % len(graph.ids)
    moved = graph.ids[number]
    for key in graph.outputs[number]:
        world.versions[graph.input_names[key]] = "moved"
    # Only those that read one of the images, and what is below them.
    read = {graph.ids[reader] for key in graph.outputs[number] for reader in graph.readers[key]}
    finish_all(shell)
    oracle = as_networkx(*made)
    expected = {below for name in read for below in {name} | nx.descendants(oracle, name)}
    assert expected <= nx.descendants(oracle, moved)
    assert {name: len(builds) for name, builds in world.builds.items() if builds} == dict.fromkeys(
        expected, 1
    )
