"""The graph of sources: who is built from whom, in which order, and where that goes round in a circle.

Frozen after construction. Inside, sources and inputs are numbers (sources in the order of their ids): a
hundred thousand of them stay small, and every order is deterministic. Names come in and go out at the edge.

Two rules live here (design, sections 1 and 3). An edge *counts* if it is needed, not pinned by a digest, and
of a kind that makes its child stale. Edges between the members of a cycle are *inner* edges: reported, and
ignored for order, staleness and settledness, so that members never trigger each other.
"""

from collections.abc import Iterable, Iterator, Mapping
from heapq import heapify, heappop, heappush

import msgspec

from imagechain.chain.components import cyclic_components, walk_component
from imagechain.chain.values import BUILD_KINDS, Dependency, DependencyKind, Source, files_input
from imagechain.refs import parse_reference

#: What a build is expected to last where nothing is known.
EXPECTED_SECONDS_DEFAULT = 60.0


class UnknownSourceError(KeyError):
    """A name that is no source, or no input, of this graph: a mistake of the caller."""

    def __str__(self) -> str:
        return str(self.args[0])


class Cycle(msgspec.Struct, frozen=True, kw_only=True):
    """Sources that are built from each other."""

    #: Each member once; each is an input of the next, as far as one path can show it.
    members: tuple[str, ...]
    #: All edges among the members, in the order of the members.
    dependencies: tuple[Dependency, ...]


class Graph:
    """Sources and what they are built from.

    Attributes:
        ids: ids of all sources, sorted; a source's number is its place here.
        number: number of each source, by id.
        sources: the sources, by number.
        dependencies: what each source is built from, counting or not, by number.
        kinds: kinds of dependencies that make a child stale.
        parents, children: numbers of the neighbours over counting edges, sorted, by number.
        input_names: names of all inputs; an input's number is its place here.
        input_number: number of each input, by name.
        inputs: numbers of the inputs of each source, by its number; its own files come last.
        readers: numbers of the sources that have an input, by the input's number.
        outputs: numbers of the inputs that a source brings forth: its images, or its id if it has none.
        publisher: number of the source that an input comes from, by the input's number; -1 for none.
        component: number of the cycle that a source is in, by number; -1 for none.
        cycles: the cycles, by the ids of their members.
    """

    def __init__(
        self,
        sources: Iterable[Source],
        dependencies: Iterable[Dependency],
        kinds: frozenset[DependencyKind] = BUILD_KINDS,
    ) -> None:
        """Build the graph.

        Raises:
            ValueError: two sources have one id.
            UnknownSourceError: a dependency names a source that is not given.
        """
        self.kinds = kinds
        self.sources = sorted(sources, key=lambda source: source.id)
        self.ids = [source.id for source in self.sources]
        self.number = {name: number for number, name in enumerate(self.ids)}
        if len(self.number) != len(self.ids):
            twice = next(a for a, b in zip(self.ids, self.ids[1:], strict=False) if a == b)
            raise ValueError(f"two sources have the id {twice!r}; give each source once")
        self.dependencies: list[list[Dependency]] = [[] for _ in self.ids]
        for dependency in dependencies:
            self.dependencies[self._known(dependency.child, dependency)].append(dependency)
        self._connect()
        self._name_inputs()
        self._find_cycles()

    # --- questions about one source ---------------------------------------------------------------------

    def number_of(self, name: str) -> int:
        """Tell the number of a source.

        Raises:
            UnknownSourceError: there is none of that id.
        """
        try:
            return self.number[name]
        except KeyError:
            raise UnknownSourceError(f"no source {name!r} in a graph of {len(self.ids)} sources") from None

    def source(self, name: str) -> Source:
        """Give the source of an id."""
        return self.sources[self.number_of(name)]

    def parents_of(self, name: str) -> tuple[str, ...]:
        """Name what a source is built from, as far as it counts."""
        return self._named(self.parents[self.number_of(name)])

    def children_of(self, name: str) -> tuple[str, ...]:
        """Name what is built from a source, as far as it counts."""
        return self._named(self.children[self.number_of(name)])

    def inputs_of(self, name: str) -> tuple[str, ...]:
        """Name the inputs of a project, its own files last."""
        return tuple(self.input_names[key] for key in self.inputs[self.number_of(name)])

    def descendants_of(self, name: str) -> frozenset[str]:
        """Name all that is built from a source, directly or not; in a cycle, itself too."""
        return frozenset(self._named(self.reach(self.number_of(name), self.children)))

    def ancestors_of(self, name: str) -> frozenset[str]:
        """Name all that a source is built from, directly or not; in a cycle, itself too."""
        return frozenset(self._named(self.reach(self.number_of(name), self.parents)))

    # --- questions about the whole ----------------------------------------------------------------------

    def order(self) -> list[int]:
        """List all numbers, parents before children; of those that could be next, the least."""
        missing = [sum(1 for _ in self.outer(number, self.parents)) for number in range(len(self.ids))]
        ready = [number for number, count in enumerate(missing) if not count]
        heapify(ready)
        order = []
        while ready:
            number = heappop(ready)
            order.append(number)
            for child in self.outer(number, self.children):
                missing[child] -= 1
                if not missing[child]:
                    heappush(ready, child)
        return order

    def generations(self) -> tuple[tuple[str, ...], ...]:
        """Name the sources in generations: a source's parents are all in earlier ones."""
        depth = [0] * len(self.ids)
        for number in self.order():
            for child in self.outer(number, self.children):
                depth[child] = max(depth[child], depth[number] + 1)
        generations: list[list[int]] = [[] for _ in range(max(depth, default=-1) + 1)]
        for number, level in enumerate(depth):
            generations[level].append(number)
        return tuple(self._named(generation) for generation in generations)

    def remaining_seconds(self, expected_seconds: Mapping[str, float]) -> list[float]:
        """Tell, by number, how long the longest path of builds from a source downwards is, itself included.

        External images cost nothing; a project without an expectation costs `EXPECTED_SECONDS_DEFAULT`.
        """
        remaining = [0.0] * len(self.ids)
        for number in reversed(self.order()):
            source = self.sources[number]
            if source.kind == "project":
                remaining[number] = expected_seconds.get(source.id, EXPECTED_SECONDS_DEFAULT)
            remaining[number] += max(
                (remaining[child] for child in self.outer(number, self.children)), default=0
            )
        return remaining

    def only(self, names: Iterable[str]) -> "Graph":
        """Cut out the sources of these ids and all that they are built from."""
        kept: set[int] = set()
        for name in names:
            number = self.number_of(name)
            kept.add(number)
            kept.update(self.reach(number, self.parents))
        ids = set(self._named(kept))
        return Graph(
            (self.sources[number] for number in kept),
            (
                dependency
                for number in sorted(kept)
                for dependency in self.dependencies[number]
                if dependency.parent is None or dependency.parent in ids
            ),
            self.kinds,
        )

    # --- for the other modules of this package, in numbers ----------------------------------------------

    def counts(self, dependency: Dependency) -> bool:
        """Tell whether a dependency makes its child stale when its parent moves."""
        return (
            dependency.parent is not None
            and dependency.needed
            and dependency.kind in self.kinds
            and not dependency.pinned
        )

    def key_of(self, dependency: Dependency) -> int | None:
        """Tell the number of the input that a reference names, counting or not; None if it names none."""
        return None if dependency.image is None else self.input_number[_identity(dependency)]

    def is_inner(self, number: int, other: int) -> bool:
        """Tell whether an edge between two sources would be inside a cycle."""
        return self.component[number] >= 0 and self.component[number] == self.component[other]

    def outer(self, number: int, neighbours: list[list[int]]) -> Iterable[int]:
        """Give the `parents` or `children` of a source without those in a cycle with it."""
        if self.component[number] < 0:
            return neighbours[number]
        return [other for other in neighbours[number] if not self.is_inner(number, other)]

    def reach(self, number: int, neighbours: list[list[int]]) -> set[int]:
        """Find all sources that can be reached over `parents` or `children`."""
        found: set[int] = set()
        frontier = [number]
        while frontier:
            for other in neighbours[frontier.pop()]:
                if other not in found:
                    found.add(other)
                    frontier.append(other)
        return found

    # --- construction -----------------------------------------------------------------------------------

    def _known(self, name: str, dependency: Dependency) -> int:
        number = self.number.get(name)
        if number is None:
            raise UnknownSourceError(
                f"{dependency.file}:{dependency.line}: a dependency names {name!r}, which is no source"
            )
        return number

    def _named(self, numbers: Iterable[int]) -> tuple[str, ...]:
        return tuple(self.ids[number] for number in numbers)

    def _counting(self, number: int) -> Iterator[Dependency]:
        return (dependency for dependency in self.dependencies[number] if self.counts(dependency))

    def _connect(self) -> None:
        self.parents: list[list[int]] = []
        self.children: list[list[int]] = [[] for _ in self.ids]
        for number in range(len(self.ids)):
            found = {self._known(str(edge.parent), edge) for edge in self._counting(number)}
            self.parents.append(sorted(found))
            for parent in self.parents[number]:
                self.children[parent].append(number)

    def _name_inputs(self) -> None:
        self.input_names: list[str] = []
        self.input_number: dict[str, int] = {}
        self.publisher: list[int] = []
        self.outputs: list[list[int]] = []
        for number, source in enumerate(self.sources):
            self.outputs.append([self._input(name, number) for name in source.images or (source.id,)])
        referred: list[list[int]] = [[] for _ in self.ids]
        for dependencies in self.dependencies:
            for dependency in dependencies:
                if dependency.image is not None:
                    parent = -1 if dependency.parent is None else self._known(dependency.parent, dependency)
                    key = self._input(_identity(dependency), parent)
                    if parent >= 0 and key not in referred[parent]:
                        referred[parent].append(key)
        self.inputs: list[tuple[int, ...]] = []
        for number in range(len(self.ids)):
            found: dict[int, None] = {}
            for dependency in self._counting(number):
                if dependency.image is not None:
                    found[self.input_number[_identity(dependency)]] = None
                else:
                    parent = self.number[str(dependency.parent)]
                    found.update(dict.fromkeys(referred[parent] or [self._main_output(parent)]))
            if self.sources[number].kind == "project":
                found[self._input(files_input(self.ids[number]), -1)] = None
            self.inputs.append(tuple(found))
        self.readers: list[list[int]] = [[] for _ in self.input_names]
        for number, inputs in enumerate(self.inputs):
            for key in inputs:
                self.readers[key].append(number)

    def _input(self, name: str, publisher: int) -> int:
        number = self.input_number.get(name)
        if number is None:
            number = self.input_number[name] = len(self.input_names)
            self.input_names.append(name)
            self.publisher.append(publisher)
        return number

    def _main_output(self, number: int) -> int:
        """Choose the image that stands for a project of which none is referred to."""
        outputs = self.outputs[number]
        return next(
            (output for output in outputs if self.input_names[output].endswith(":latest")), outputs[0]
        )

    def _find_cycles(self) -> None:
        self.component = [-1] * len(self.ids)
        cycles = []
        for component, members in enumerate(cyclic_components(self.parents, self.children)):
            inside = set(members)
            for member in members:
                self.component[member] = component
            path = walk_component(members, self.children)
            edges = tuple(
                edge
                for member in path
                for edge in self._counting(member)
                if self.number[str(edge.parent)] in inside
            )
            cycles.append(Cycle(members=self._named(path), dependencies=edges))
        self.cycles = tuple(cycles)


def _identity(dependency: Dependency) -> str:
    """Name the input that a reference stands for: `Reference.identity`, parsed only where it differs."""
    image = str(dependency.image)
    return parse_reference(image).identity if dependency.pinned else image
