"""The facts about a graph's sources, and the questions that they answer for one project at a time.

Everything is by number (see `Graph`). Facts are changed by `Chain` only; all that is here reads.

Rules that are decided here, besides those of the design:

- An input is compared only while its present version is known: what could not be read starts nothing.
- Inputs from a project's own cycle are never compared; while one of them does not exist, nothing can begin.
- What is stale only by its layers at first sight is shown, but neither started nor waited for: its image was
  the same before we came.
"""

from collections.abc import Iterator, Mapping
from math import inf

from imagechain.chain.graph import Graph
from imagechain.chain.policy import Policy
from imagechain.chain.state import Pause, ProjectState


class Facts:
    """What systems of record and people said, about every source and input.

    Attributes:
        graph, policy: as given.
        remaining: seconds of the longest path of builds from a source downwards, by its number.
        states: what is known of each source, by its number.
        versions: present version of each input; None: unknown, or there is no such thing.
        before: the version that each input had before; to know what an earlier build can have read.
        changed_at: when the present version was first read; -inf: never.
        read_at: when the input was last read; -inf: never.
        rewired_at: when a project was found to be built from something else than before; -inf: never.
        pauses: pauses of single sources and their subtrees, by number.
        pause_of_all: the pause of everything, if there is one.
        builds_count: builds that run.
        recent_starts: when the last builds started, in order; as many as may start in a minute.
    """

    def __init__(self, graph: Graph, policy: Policy, expected_seconds: Mapping[str, float]) -> None:
        self.graph = graph
        self.policy = policy
        self.remaining = graph.remaining_seconds(expected_seconds)
        self.states = [ProjectState() for _ in graph.ids]
        self.versions: list[str | None] = [None] * len(graph.input_names)
        self.before: list[str | None] = [None] * len(graph.input_names)
        self.changed_at = [-inf] * len(graph.input_names)
        self.read_at = [-inf] * len(graph.input_names)
        self.rewired_at = [-inf] * len(graph.ids)
        self.pauses: dict[int, Pause] = {}
        self.pause_of_all: Pause | None = None
        self.builds_count = 0
        self.recent_starts: list[float] = []

    def present(self, number: int) -> tuple[str | None, ...]:
        """Give the present versions of a source's inputs."""
        return tuple([self.versions[key] for key in self.graph.inputs[number]])

    def known_at(self, number: int, at: float) -> tuple[str | None, ...]:
        """Give the versions that a source's inputs had at a time, as far back as one change of each."""
        return tuple(
            self.versions[key] if self.changed_at[key] <= at else self.before[key]
            for key in self.graph.inputs[number]
        )

    def differing(
        self, number: int, versions: tuple[str | None, ...]
    ) -> Iterator[tuple[int, str | None, str]]:
        """Find the inputs whose present versions are known and are not these: each with both."""
        is_cyclic = self.graph.component[number] >= 0
        for key, before in zip(self.graph.inputs[number], versions, strict=True):
            after = self.versions[key]
            if after is not None and after != before and not (is_cyclic and self.is_inner(number, key)):
                yield key, before, after

    def moved(self, number: int) -> Iterator[tuple[int, str | None, str]]:
        """Find the inputs that are not what the last build was made from: each with both versions."""
        record = self.states[number].record
        if record is not None and record.is_known:
            yield from self.differing(number, record.versions)

    def is_inner(self, number: int, key: int) -> bool:
        """Tell whether an input comes from a member of the cycle that the source is in."""
        publisher = self.graph.publisher[key]
        return publisher >= 0 and self.graph.is_inner(number, publisher)

    def cycle_gaps(self, number: int) -> list[int]:
        """Find the inputs from a source's own cycle that do not exist: nothing can begin such a cycle."""
        if self.graph.component[number] < 0:
            return []
        return [
            key
            for key in self.graph.inputs[number]
            if self.versions[key] is None and self.is_inner(number, key)
        ]

    def lost_images(self, number: int) -> list[int]:
        """Find the images of a project that are known not to exist, though they should."""
        record = self.states[number].record
        is_adopted = record is not None and record.is_adopted
        return [
            key
            for key in self.graph.outputs[number]
            if self.versions[key] is None
            and self.read_at[key] > -inf
            # What was not there at first sight is not missed.
            and not (is_adopted and self.before[key] is None)
        ]

    def is_external(self, number: int) -> bool:
        """Tell whether a source is an image that no project of the graph publishes."""
        return self.graph.sources[number].kind == "external"

    def is_stale(self, number: int) -> bool:
        """Tell whether a project is to be built, from its facts alone."""
        state = self.states[number]
        if state.is_inactive:
            return False
        if state.is_asked or state.has_lost_image or state.is_never_built:
            return True
        record = state.record
        return record is not None and (not record.is_known or any(True for _ in self.moved(number)))

    def is_startable(self, number: int) -> bool:
        """Tell whether a project may start as far as facts go; `due_at` tells when."""
        state = self.states[number]
        return (
            state.is_stale and not (state.runs or state.waits or state.pauses) and not self.cycle_gaps(number)
        )

    def due_at(self, number: int) -> float:
        """Tell when a startable project may start: -inf: at once; inf: not by itself."""
        return max(self.retry_at(number), self.quiet_at(number))

    def retry_at(self, number: int) -> float:
        """Tell when back-off allows another build: -inf: at once; inf: not by itself."""
        failure = self.states[number].failure
        waits = self.policy.retry_seconds
        if failure is None or (failure.attempts == 0 and not failure.is_cancelled):
            return -inf
        if failure.is_cancelled or failure.attempts > len(waits):
            return inf
        return failure.at + waits[failure.attempts - 1]

    def quiet_at(self, number: int) -> float:
        """Tell when what a project is stale by has been still for long enough.

        That is: external images, and its own files, where they name something new to be built from.
        """
        moved = [(key, before) for key, before, _ in self.moved(number)]
        changed_at = [
            self.changed_at[key]
            for key, _ in moved
            if self.graph.publisher[key] >= 0 and self.is_external(self.graph.publisher[key])
        ]
        if any(before is None for _, before in moved):
            changed_at.append(self.rewired_at[number])
        return max(changed_at, default=-inf) + self.policy.quiet_seconds

    def priority(self, number: int) -> tuple[float, float]:
        """Order those who may start: what people asked for, then the longest remaining path."""
        return (0.0 if self.states[number].is_asked else 1.0, -self.remaining[number])

    def is_paused(self, number: int) -> bool:
        """Tell whether any pause holds a project."""
        return self.pause_of_all is not None or self.states[number].pauses > 0

    def held_by(self, target: int) -> set[int]:
        """Find the sources that the pause of one holds."""
        below = self.graph.reach(target, self.graph.children) if self.pauses[target].subtree else set()
        return below | {target}
