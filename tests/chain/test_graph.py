"""The graph, with networkx as the oracle of its algorithms."""

from itertools import pairwise

import networkx as nx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from chain.world import DIGEST, chain_of, edge, external, graphs, image, project
from imagechain.chain import (
    BUILD_KINDS,
    EXPECTED_SECONDS_DEFAULT,
    Dependency,
    Graph,
    Source,
    UnknownSourceError,
)
from imagechain.refs import parse_reference


def as_networkx(sources: list[Source], dependencies: list[Dependency]) -> "nx.DiGraph[str]":
    """Edges from parents to children, as far as they count; written from the words of the design."""
    found: nx.DiGraph[str] = nx.DiGraph()
    found.add_nodes_from(source.id for source in sources)
    for dependency in dependencies:
        is_pinned = dependency.image is not None and parse_reference(dependency.image).digest is not None
        if (
            dependency.parent is not None
            and dependency.needed
            and dependency.kind in BUILD_KINDS
            and not is_pinned
        ):
            found.add_edge(dependency.parent, dependency.child)
    return found


def without_inner_edges(found: "nx.DiGraph[str]") -> "nx.DiGraph[str]":
    outer = found.copy()
    for members in nx.strongly_connected_components(found):
        outer.remove_edges_from([(a, b) for a, b in found.edges if a in members and b in members])
    return outer


@given(graphs())
def test_neighbours_descendants_and_ancestors_are_those_of_networkx(
    made: tuple[list[Source], list[Dependency]],
) -> None:
    graph, oracle = Graph(*made), as_networkx(*made)
    for source in made[0]:
        assert set(graph.children_of(source.id)) == set(oracle.successors(source.id))
        assert set(graph.parents_of(source.id)) == set(oracle.predecessors(source.id))
        in_cycle = {source.id} if any(source.id in c.members for c in graph.cycles) else set()
        assert graph.descendants_of(source.id) == nx.descendants(oracle, source.id) | in_cycle
        assert graph.ancestors_of(source.id) == nx.ancestors(oracle, source.id) | in_cycle


@given(graphs())
def test_generations_are_those_of_networkx_without_the_edges_inside_cycles(
    made: tuple[list[Source], list[Dependency]],
) -> None:
    oracle = without_inner_edges(as_networkx(*made))
    expected = tuple(tuple(sorted(generation)) for generation in nx.topological_generations(oracle))
    assert Graph(*made).generations() == expected


@given(graphs())
def test_the_order_is_the_least_topological_order(made: tuple[list[Source], list[Dependency]]) -> None:
    graph = Graph(*made)
    oracle = without_inner_edges(as_networkx(*made))
    assert [graph.ids[number] for number in graph.order()] == list(
        nx.lexicographical_topological_sort(oracle)
    )


@given(graphs())
def test_cycles_are_the_strong_components_of_networkx_with_all_their_edges(
    made: tuple[list[Source], list[Dependency]],
) -> None:
    graph, oracle = Graph(*made), as_networkx(*made)
    expected = {
        frozenset(members)
        for members in nx.strongly_connected_components(oracle)
        if len(members) > 1 or oracle.has_edge(*list(members) * 2)
    }
    assert {frozenset(cycle.members) for cycle in graph.cycles} == expected
    assert sorted(cycle.members[0] for cycle in graph.cycles) == [
        min(cycle.members) for cycle in graph.cycles
    ]
    for cycle in graph.cycles:
        assert len(cycle.members) == len(set(cycle.members))
        edges = {(dependency.parent, dependency.child) for dependency in cycle.dependencies}
        assert edges == set(oracle.subgraph(cycle.members).edges)


@given(st.permutations("abcdefg"), st.integers(1, 7))
def test_a_simple_cycle_is_told_as_its_path(names: list[str], length: int) -> None:
    members = names[:length]
    edges = [edge(child, parent) for parent, child in zip(members, members[1:] + members[:1], strict=True)]
    (cycle,) = Graph([project(name) for name in names], edges).cycles
    least = members.index(min(members))
    assert list(cycle.members) == members[least:] + members[:least]
    assert sorted(cycle.dependencies, key=str) == sorted(edges, key=str)


def test_a_tangled_cycle_lists_each_member_once_and_follows_edges_where_it_can() -> None:
    graph = chain_of("a>b b>a b>c c>d d>b").graph
    (cycle,) = graph.cycles
    assert cycle.members == ("a", "b", "c", "d")
    assert len(cycle.dependencies) == 5


@given(
    graphs(acyclic=True), st.dictionaries(st.sampled_from([f"p{n}" for n in range(7)]), st.integers(0, 99))
)
def test_the_longest_remaining_path_is_that_of_networkx(
    made: tuple[list[Source], list[Dependency]], seconds: dict[str, int]
) -> None:
    graph, oracle = Graph(*made), as_networkx(*made)
    costs = {
        source.id: seconds.get(source.id, EXPECTED_SECONDS_DEFAULT) if source.kind == "project" else 0
        for source in made[0]
    }
    weighted: nx.DiGraph[str] = nx.DiGraph()
    for name, cost in costs.items():
        weighted.add_edge(f"{name} begins", name, weight=cost)
    for parent, child in oracle.edges:
        weighted.add_edge(parent, f"{child} begins", weight=0)
    remaining = graph.remaining_seconds({name: float(s) for name, s in seconds.items()})
    for number, name in enumerate(graph.ids):
        below = weighted.subgraph({f"{name} begins"} | nx.descendants(weighted, f"{name} begins"))
        assert remaining[number] == nx.dag_longest_path_length(below)


def test_a_chain_deeper_than_the_stack_has_an_order_and_a_cycle_as_long() -> None:
    length = 100_000
    names = [f"p{number:06}" for number in range(length)]
    edges = [edge(child, parent) for parent, child in pairwise(names)]
    graph = Graph([project(name) for name in names], edges)
    assert graph.order() == list(range(length))
    assert graph.cycles == ()
    assert Graph([project(name) for name in names], [*edges, edge(names[0], names[-1])]).cycles[
        0
    ].members == tuple(names)


def test_what_is_pinned_unneeded_or_of_another_kind_is_no_edge() -> None:
    edges = [
        edge("app", "base", image=f"{image('base')}@{DIGEST}"),
        edge("app", "unused", needed=False),
        edge("app", "runner", "ci-image"),
        replace(edge("app", image("frontend"), "syntax"), parent=None),
    ]
    sources = [project(name) for name in ("app", "base", "unused", "runner")]
    assert Graph(sources, edges).parents_of("app") == ()
    assert Graph(sources, edges, BUILD_KINDS | {"ci-image"}).parents_of("app") == ("runner",)


def test_an_input_is_the_image_and_only_the_image_that_is_referred_to() -> None:
    base = project("base", "registry.test/base:1", "registry.test/base:2")
    graph = Graph([base, project("app")], [edge("app", "base", image="registry.test/base:2")])
    assert graph.inputs_of("app") == ("registry.test/base:2", "files:app")


@pytest.mark.parametrize(
    ("images", "referred", "expected"),
    [
        (
            ("r.test/b:1", "r.test/b:2", "r.test/b:latest"),
            ("r.test/b:2", "r.test/b:1"),
            ("r.test/b:2", "r.test/b:1"),
        ),
        (("r.test/b:1", "r.test/b:latest"), (), ("r.test/b:latest",)),
        (("r.test/b:1", "r.test/b:2"), (), ("r.test/b:1",)),
        ((), (), ("base",)),
    ],
)
def test_a_declared_dependency_reads_what_others_read_else_latest_else_the_first_image_else_the_project(
    images: tuple[str, ...], referred: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    base = Source(id="base", kind="project", images=images)
    edges = [edge("other", "base", image=reference) for reference in referred]
    graph = Graph([base, project("other"), project("app")], [*edges, edge("app", "base", "declared")])
    assert graph.inputs_of("app") == (*expected, "files:app")


@given(graphs(), st.integers(0, 6))
def test_only_keeps_a_source_and_its_ancestors(
    made: tuple[list[Source], list[Dependency]], pick: int
) -> None:
    graph = Graph(*made)
    name = graph.ids[pick % len(graph.ids)]
    part = graph.only([name])
    assert set(part.ids) == {name} | graph.ancestors_of(name)
    for kept in part.ids:
        assert part.parents_of(kept) == graph.parents_of(kept)


def test_two_sources_of_one_id_are_an_error_that_names_it() -> None:
    with pytest.raises(ValueError, match="two sources have the id 'app'"):
        Graph([project("app"), project("app")], [])


def test_a_dependency_on_no_source_is_an_error_that_names_file_and_line() -> None:
    with pytest.raises(UnknownSourceError, match="app/Containerfile:1: a dependency names 'base'"):
        Graph([project("app")], [edge("app", "base")])
    with pytest.raises(UnknownSourceError, match="no source 'base' in a graph of 1 sources"):
        Graph([project("app")], []).descendants_of("base")


def test_an_external_image_is_the_input_of_its_name() -> None:
    graph = Graph([external("debian"), project("app")], [edge("app", image("debian"))])
    assert graph.inputs_of("app") == (image("debian"), "files:app")
    assert graph.source("app").kind == "project"
