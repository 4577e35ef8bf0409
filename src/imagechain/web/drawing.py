"""Draws a part of the graph: in columns from left to right, each source right of all that it is built from.

The usual layered way (Sugiyama): longest paths give the columns, edges that cross columns get bends, sweeps
by the middle of the neighbours give order and heights within columns. Pure; lengths are in pixels.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from itertools import pairwise

import msgspec

from imagechain.chain import Graph

#: Sources that are drawn: more is no picture any more.
NODES_MAX = 150
#: And around one source.
AROUND_MAX = 60
WIDTH = 216
HEIGHT = 44
_COLUMN = WIDTH + 72
_ROW = HEIGHT + 14
#: Edges that pass a column lie closer together than sources.
_BEND_ROW = 12
_SWEEPS = 6
#: Sources and bends; beyond it, edges take the direct way.
_POINTS_MAX = 2_000


class Node(msgspec.Struct, frozen=True, kw_only=True):
    """A source: the left upper corner of its box."""

    number: int
    x: int
    y: int


class Edge(msgspec.Struct, frozen=True, kw_only=True):
    """A line from a source to what is built from it, as the `d` of an SVG path."""

    path: str
    #: Its ends are in one cycle.
    is_inner: bool


class Drawing(msgspec.Struct, frozen=True, kw_only=True):
    """A picture, and how large it is."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]
    width: int
    height: int


def around(graph: Graph, centre: int, nodes_max: int = AROUND_MAX) -> set[int]:
    """Choose the sources that are nearest to one, upwards and downwards, but not down again from above."""
    found = {centre}
    sides = ((graph.parents, {centre}), (graph.children, {centre}))
    fronts = [[centre], [centre]]
    while any(fronts) and len(found) < nodes_max:
        for side, (neighbours, seen) in enumerate(sides):
            reached = dict.fromkeys(one for number in fronts[side] for one in neighbours[number])
            fronts[side] = [one for one in reached if one not in seen]
            seen.update(fronts[side])
            new = [one for one in fronts[side] if one not in found]
            found.update(new[: nodes_max - len(found)])
    return found


def draw(graph: Graph, chosen: Collection[int]) -> Drawing:
    """Draw these sources, and the edges among them."""
    return _Layout(graph, chosen).drawing()


class _Layout:
    """Sources and bends are points; a point knows its column, its neighbours and its height."""

    def __init__(self, graph: Graph, chosen: Collection[int]) -> None:
        inside = set(chosen)
        edges = [
            (parent, child) for child in sorted(inside) for parent in graph.parents[child] if parent in inside
        ]
        self._inner = [(parent, child) for parent, child in edges if graph.is_inner(parent, child)]
        outer = [edge for edge in edges if not graph.is_inner(*edge)]
        self._sources = sorted(inside)
        column = _columns(self._sources, outer)
        self._points: list[list[int]] = [[] for _ in range(max(column.values(), default=-1) + 1)]
        for number in self._sources:
            self._points[column[number]].append(number)
        self._before: dict[int, list[int]] = {number: [] for number in self._sources}
        self._after: dict[int, list[int]] = {number: [] for number in self._sources}
        self._lines: list[tuple[int, ...]] = []
        for parent, child in outer:
            # Bends have negative numbers.
            crossed = column[child] - column[parent] - 1 if len(self._before) < _POINTS_MAX else 0
            bends = [-len(self._before) - place for place in range(crossed)]
            line = (parent, *bends, child)
            for place, bend in enumerate(bends, column[parent] + 1):
                self._points[place].append(bend)
                self._before[bend], self._after[bend] = [], []
            for one, other in pairwise(line):
                self._after[one].append(other)
                self._before[other].append(one)
            self._lines.append(line)
        self._column = {point: place for place, points in enumerate(self._points) for point in points}
        self._y: dict[int, float] = {}
        self._settle()

    def _settle(self) -> None:
        for points in self._points:
            self._stack(points, dict.fromkeys(points, 0.0))
        for sweep in range(_SWEEPS):
            is_down = sweep % 2 == 0
            neighbours = self._before if is_down else self._after
            for points in self._points if is_down else reversed(self._points):
                wanted = {
                    point: _mean([self._y[one] for one in neighbours[point]], self._y[point])
                    for point in points
                }
                points.sort(key=lambda point: wanted[point])
                self._stack(points, wanted)

    def _stack(self, points: Sequence[int], wanted: Mapping[int, float]) -> None:
        """Put the points of a column as near to where they want to be as their order and sizes allow."""
        end = float("-inf")
        for before, point in zip((None, *points), points, strict=False):
            gap = _ROW if before is None or before >= 0 or point >= 0 else _BEND_ROW
            end = self._y[point] = max(wanted[point], end + gap)
        pushed = _mean([self._y[point] - wanted[point] for point in points], 0.0)
        for point in points:
            self._y[point] -= pushed

    def drawing(self) -> Drawing:
        top = min(self._y.values(), default=0.0)
        y = {point: round(height - top) for point, height in self._y.items()}
        nodes = [
            Node(number=number, x=self._column[number] * _COLUMN, y=y[number]) for number in self._sources
        ]
        edges = [Edge(path=self._path(line, y), is_inner=False) for line in self._lines]
        edges += [Edge(path=self._path(line, y), is_inner=True) for line in self._inner]
        return Drawing(
            nodes=tuple(nodes),
            edges=tuple(edges),
            width=max(0, len(self._points) * _COLUMN - (_COLUMN - WIDTH)),
            height=max(y.values(), default=-HEIGHT) + HEIGHT,
        )

    def _path(self, line: Iterable[int], y: Mapping[int, int]) -> str:
        (first, *rest) = line
        x, height = self._column[first] * _COLUMN + WIDTH, y[first] + HEIGHT // 2
        words = [f"M{x} {height}"]
        for point in rest:
            left, middle = self._column[point] * _COLUMN, y[point] + HEIGHT // 2
            bend = max(abs(left - x) // 2, 36)
            words.append(f"C{x + bend} {height} {left - bend} {middle} {left} {middle}")
            x, height = left + WIDTH, middle
            if point < 0:
                words.append(f"H{x}")
        return "".join(words)


def _columns(numbers: Iterable[int], edges: Iterable[tuple[int, int]]) -> dict[int, int]:
    """Give each source a column right of all that it is built from."""
    column = dict.fromkeys(numbers, 0)
    children: dict[int, list[int]] = {number: [] for number in column}
    missing = dict.fromkeys(column, 0)
    for parent, child in edges:
        children[parent].append(child)
        missing[child] += 1
    ready = [number for number, count in missing.items() if not count]
    for number in ready:
        for child in children[number]:
            column[child] = max(column[child], column[number] + 1)
            missing[child] -= 1
            if not missing[child]:
                ready.append(child)
    return column


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise
