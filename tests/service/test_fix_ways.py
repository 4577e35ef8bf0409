"""How far a fix has come, against a world in which every image says what it holds."""

from collections.abc import Mapping

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from imagechain.chain import (
    BuildFinished,
    BuildStarted,
    Chain,
    Dependency,
    Graph,
    ImageFound,
    Policy,
    Source,
    VersionRead,
)
from imagechain.service.fix_ways import FixWay, Place, fix_ways, with_kept

#: What an image holds: its own edition, and the content of what it was built from.
Content = tuple[str, int, tuple["Content", ...]]


class World:
    """A chain where `s0`, `s1`, ... are built from some of those before, and containers that run them."""

    def __init__(self, parents: Mapping[int, list[int]]) -> None:
        self.parents = parents
        self.now = 1_000.0
        self.editions = dict.fromkeys(parents, 0)
        self.content: dict[int, Content] = {}
        #: By name: the source, what it runs, and since when.
        self.containers: dict[str, tuple[int, Content, float]] = {}
        sources = [
            Source(
                id=f"s{n}", kind="project" if above else "external", images=(image(n),),
                file="Containerfile" if above else None,
            )
            for n, above in parents.items()
        ]  # fmt: skip
        edges = [
            Dependency(
                child=f"s{n}", parent=f"s{up}", kind="from", file="Containerfile", line=1, image=image(up)
            )
            for n, above in parents.items()
            for up in above
        ]
        self.chain = Chain(Graph(sources, edges), Policy())
        for n in parents:
            self.content[n] = self._made(n)
            self.chain.apply(self._read(n))
        for n, above in parents.items():
            if above:
                inputs = {image(up): version(self.content[up]) for up in above}
                self.chain.apply(ImageFound(project=f"s{n}", at=self.now, inputs=inputs))

    def _made(self, n: int) -> Content:
        return (f"s{n}", self.editions[n], tuple(self.content[up] for up in self.parents[n]))

    def _read(self, n: int) -> VersionRead:
        return VersionRead(input=image(n), version=version(self.content[n]), at=self.now)

    def build(self, n: int, *, changes: bool) -> None:
        """Build a project, or let an external image move."""
        self.now += 10
        self.editions[n] += changes
        self.content[n] = self._made(n)
        if not self.parents[n]:
            self.chain.apply(self._read(n))
            return
        inputs = {image(up): version(self.content[up]) for up in self.parents[n]}
        build = str(self.now)
        self.chain.apply(BuildStarted(project=f"s{n}", build=build, at=self.now, inputs=inputs))
        outputs: dict[str, str | None] = {image(n): version(self.content[n])}
        self.chain.apply(
            BuildFinished(
                project=f"s{n}", build=build, at=self.now, outcome="success", inputs=inputs, outputs=outputs
            )
        )

    def run(self, name: str, n: int) -> None:
        """Make a container anew on the present image."""
        self.now += 10
        self.containers[name] = (n, self.content[n], self.now)

    def places(self) -> list[Place]:
        return [
            Place(id=name, image=image(n), is_present=content == self.content[n], since=since)
            for name, (n, content, since) in self.containers.items()
        ]

    def ways(self) -> dict[str, FixWay]:
        return {way.source: way for way in fix_ways(self.chain, self.places())}


def image(n: int) -> str:
    return f"r.io/s{n}:latest"


def version(content: Content) -> str:
    return repr(content)


def holds(content: Content, source: str) -> set[Content]:
    """All contents of a source in an image."""
    own = {content} if content[0] == source else set()
    return own.union(*(holds(part, source) for part in content[2]))


def is_wholly_present(world: World, content: Content, source: str) -> bool:
    """Whether an image holds of what lies on the ways to a source only what that is now."""
    if not holds(content, source):
        return True
    number = int(content[0][1:])
    parts = (is_wholly_present(world, part, source) for part in content[2])
    return world.content[number] == content and (content[0] == source or all(parts))


@st.composite
def worlds(draw: st.DrawFn) -> World:
    count = draw(st.integers(1, 5))
    parents = {n: sorted(draw(st.sets(st.integers(0, n - 1), max_size=2))) if n else [] for n in range(count)}
    world = World(parents)
    for name in draw(st.lists(st.sampled_from("abc"), unique=True)):
        world.run(name, draw(st.integers(0, count - 1)))
    for _ in range(draw(st.integers(0, 12))):
        names = sorted(world.containers)
        if bool(names) and draw(st.booleans()):
            name = draw(st.sampled_from(names))
            world.run(name, world.containers[name][0])
        else:
            world.build(draw(st.integers(0, count - 1)), changes=draw(st.booleans()))
    return world


@given(worlds())
def test_a_container_has_a_fix_if_all_on_its_way_is_what_it_is_now(world: World) -> None:
    for source, way in world.ways().items():
        on_way = {
            name: is_wholly_present(world, content, source) and content == world.content[n]
            for name, (n, content, _) in world.containers.items()
            if holds(world.content[n], source)
        }
        assert way.missing == tuple(sorted(name for name, has in on_way.items() if not has))
        assert (way.containers, way.containers_done) == (len(on_way), sum(on_way.values()))
        assert not way.unknown
        assert way.is_done == all(on_way.values())


@given(worlds())
def test_what_counts_as_done_really_holds_the_fix_and_nothing_older(world: World) -> None:
    for source, way in world.ways().items():
        present = world.content[int(source[1:])]
        for name, (_, content, _) in world.containers.items():
            if holds(content, source) and name not in way.missing:
                assert holds(content, source) == {present}


@given(worlds())
def test_times_lie_between_the_move_and_the_last_container(world: World) -> None:
    for way in world.ways().values():
        assert (way.first_at is None) == (way.last_at is None)
        if way.first_at is not None and way.last_at is not None:
            assert way.moved_at <= way.first_at <= way.last_at <= world.now
        assert way.seconds is None or (way.is_done and way.seconds >= 0)


@given(worlds(), st.data())
def test_what_is_not_known_is_never_done(world: World, data: st.DataObject) -> None:
    places = world.places()
    hidden = {place.id for place in places if data.draw(st.booleans())}
    places = [
        msgspec.structs.replace(place, is_present=None) if place.id in hidden else place for place in places
    ]
    for way in fix_ways(world.chain, places):
        full = world.ways()[way.source]
        assert not set(way.unknown) - hidden
        assert way.is_done == (not way.missing and not way.unknown)
        assert set(way.missing) <= set(full.missing)
        assert way.containers == full.containers


def test_a_fix_is_followed_from_the_base_to_the_last_container() -> None:
    world = World({0: [], 1: [0], 2: [1]})
    world.run("web1/root/app", 2)
    world.run("web2/root/app", 2)
    assert world.ways() == {}
    world.build(0, changes=True)
    moved_at = world.now
    way = world.ways()["s0"]
    assert [(step.source, step.has) for step in way.images] == [("s1", "no"), ("s2", "no")]
    assert way.missing == ("web1/root/app", "web2/root/app")
    world.build(1, changes=False)
    world.build(2, changes=False)
    world.run("web1/root/app", 2)
    way = world.ways()["s0"]
    assert [step.built_at for step in way.images] == [moved_at + 10, moved_at + 20]
    assert (way.missing, way.first_at, way.seconds) == (("web2/root/app",), moved_at + 30, None)
    world.run("web2/root/app", 2)
    way = world.ways()["s0"]
    assert (way.is_done, way.first_at, way.last_at, way.seconds) == (True, moved_at + 30, moved_at + 40, 40)


def test_a_project_without_a_record_is_not_known() -> None:
    world = World({0: [], 1: [0]})
    world.run("a", 1)
    graph = world.chain.graph
    world.chain = Chain(graph, Policy())
    world.chain.apply(world._read(0))
    world.build(0, changes=True)
    way = world.ways()["s0"]
    assert (way.images[0].has, way.unknown, way.is_done) == ("unknown", ("a",), False)


def test_members_of_a_cycle_are_not_known() -> None:
    sources = [
        Source(id="base", kind="external", images=("r.io/base:1",)),
        Source(id="x", kind="project", images=("r.io/x:1",), file="Containerfile"),
        Source(id="y", kind="project", images=("r.io/y:1",), file="Containerfile"),
    ]
    edges = [
        Dependency(
            child=child, parent=parent, kind="from", file="Containerfile", line=1, image=f"r.io/{parent}:1"
        )
        for child, parent in (("x", "base"), ("x", "y"), ("y", "x"))
    ]
    chain = Chain(Graph(sources, edges), Policy())
    for name in ("base", "x", "y"):
        chain.apply(VersionRead(input=f"r.io/{name}:1", version="1", at=1.0))
    for name in ("x", "y"):
        chain.apply(ImageFound(project=name, at=2.0, inputs=None))
    chain.apply(VersionRead(input="r.io/base:1", version="2", at=3.0))
    (way,) = fix_ways(chain, [Place(id="a", image="r.io/y:1", is_present=True, since=4.0)])
    assert (way.source, way.unknown, way.is_done) == ("base", ("a",), False)


def test_a_fix_that_everybody_had_does_not_become_late_by_another_change() -> None:
    world = World({0: [], 1: [0]})
    world.run("a", 1)
    world.build(0, changes=True)
    world.build(1, changes=False)
    world.run("a", 1)
    done = world.ways()["s0"]
    assert done.seconds == 20
    world.now += 100_000
    world.build(1, changes=True)
    world.run("a", 1)
    assert world.ways()["s0"].seconds == 100_040
    kept = {way.source: way for way in with_kept(world.ways().values(), [done])}
    assert kept["s0"] == done
    assert kept["s1"].moved_at > 100_000
    # Nor is it forgotten when its source moves again.
    world.build(0, changes=True)
    shown = with_kept(world.ways().values(), [done])
    assert (shown[0].source, shown[0].is_done) == ("s0", False)
    assert done in shown


def test_the_first_container_stays_the_first() -> None:
    world = World({0: []})
    world.run("a", 0)
    world.run("b", 0)
    world.build(0, changes=True)
    world.run("a", 0)
    early = world.ways()["s0"]
    world.run("a", 0)
    (way,) = with_kept(world.ways().values(), [early])
    assert (way.first_at, way.last_at, way.missing) == (early.first_at, world.now, ("b",))
