"""How the graph is drawn: properties of any graph, and the choice of what is near."""

import re

from hypothesis import given
from hypothesis import strategies as st

from imagechain.chain import Graph
from imagechain.web.drawing import AROUND_MAX, HEIGHT, WIDTH, Drawing, Node, around, draw
from web.shown import built_from, project


def graph_of(edges: list[tuple[int, int]], count: int) -> Graph:
    names = [f"p{number:03}" for number in range(count)]
    return Graph(map(project, names), (built_from(names[child], names[parent]) for child, parent in edges))


@st.composite
def graphs(draw: st.DrawFn) -> Graph:
    count = draw(st.integers(0, 14))
    number = st.integers(0, max(count - 1, 0))
    edges = draw(st.lists(st.tuples(number, number), max_size=30)) if count else []
    return graph_of(sorted({edge for edge in edges if edge[0] != edge[1]}), count)


def overlap(one: Node, other: Node) -> bool:
    return abs(one.x - other.x) < WIDTH and abs(one.y - other.y) < HEIGHT


def lines(drawing: Drawing) -> list[tuple[int, int, int, int]]:
    """Give both ends of each edge."""
    found = []
    for edge in drawing.edges:
        numbers = [int(number) for number in re.findall(r"-?\d+", edge.path)]
        found.append((numbers[0], numbers[1], numbers[-2], numbers[-1]))
    return found


@given(graphs())
def test_boxes_lie_apart_within_the_picture_right_of_what_they_are_built_from(graph: Graph) -> None:
    drawing = draw(graph, range(len(graph.ids)))
    assert [node.number for node in drawing.nodes] == list(range(len(graph.ids)))
    at = {node.number: node for node in drawing.nodes}
    assert not any(
        overlap(one, other) for one in drawing.nodes for other in drawing.nodes if one is not other
    )
    for node in drawing.nodes:
        assert 0 <= node.x <= drawing.width - WIDTH
        assert 0 <= node.y <= drawing.height - HEIGHT
    edges = [(parent, child) for child, parents in enumerate(graph.parents) for parent in parents]
    assert sum(edge.is_inner for edge in drawing.edges) == sum(graph.is_inner(*edge) for edge in edges)
    drawn = sorted(lines(drawing))
    assert drawn == sorted(
        (at[parent].x + WIDTH, at[parent].y + HEIGHT // 2, at[child].x, at[child].y + HEIGHT // 2)
        for parent, child in edges
    )
    assert all(at[parent].x < at[child].x for parent, child in edges if not graph.is_inner(parent, child))


@given(graphs(), st.data())
def test_a_part_is_drawn_with_the_edges_within_it(graph: Graph, data: st.DataObject) -> None:
    numbers = range(len(graph.ids))
    chosen = data.draw(st.sets(st.sampled_from(numbers))) if numbers else set[int]()
    drawing = draw(graph, chosen)
    assert {node.number for node in drawing.nodes} == chosen
    within = sum(parent in chosen for child in chosen for parent in graph.parents[child])
    assert len(drawing.edges) == within


@given(graphs(), st.data(), st.integers(1, 6))
def test_the_nearest_are_ancestors_and_descendants(graph: Graph, data: st.DataObject, most: int) -> None:
    if not graph.ids:
        return
    centre = data.draw(st.integers(0, len(graph.ids) - 1))
    every = {centre} | graph.reach(centre, graph.parents) | graph.reach(centre, graph.children)
    assert around(graph, centre, len(graph.ids) + 1) == every
    found = around(graph, centre, most)
    assert centre in found
    assert found <= every
    assert len(found) == min(most, len(every))
    near = {centre, *graph.parents[centre], *graph.children[centre]}
    assert near <= found or found <= near


def test_around_a_hub_the_picture_stays_small() -> None:
    graph = graph_of([(number, 0) for number in range(1, 999)], 999)
    assert len(around(graph, 0)) == AROUND_MAX


def test_a_graph_full_of_edges_is_drawn_without_bends() -> None:
    count = 120
    graph = graph_of([(child, parent) for child in range(count) for parent in range(child)], count)
    drawing = draw(graph, range(count))
    assert len(drawing.edges) == count * (count - 1) // 2
    assert sum(len(edge.path) for edge in drawing.edges) < 2_000_000
