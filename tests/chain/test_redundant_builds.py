"""Builds that are needed, against those that naive triggering starts: one for each path from what changed."""

from collections import Counter
from itertools import pairwise

import networkx as nx
import pytest

from chain.world import chain_of, edge, image, immediate, move, project, run_all, settle
from imagechain.chain import Chain, Graph, RebuildAsked, plan


def layers(width: int, depth: int) -> str:
    """A full layered graph below one base: all of a layer is built from all of the one above."""
    levels = [["base"], *([f"l{level}n{place}" for place in range(width)] for level in range(depth))]
    return " ".join(
        f"{above}>{below}" for upper, lower in pairwise(levels) for above in upper for below in lower
    )


def naive_builds(chain: Chain, root: str) -> int:
    """Count the builds if every successful build triggers all direct children: the paths from the root."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_edges_from((name, child) for name in chain.graph.ids for child in chain.graph.children_of(name))
    paths = Counter({root: 1})
    for name in nx.topological_sort(graph):
        for child in graph.successors(name):
            paths[child] += paths[name]
    return paths.total() - 1


@pytest.mark.parametrize(
    ("arrows", "naive", "needed"),
    [
        pytest.param("base>a base>b a>c b>c", 4, 3, id="diamond"),
        pytest.param("base>a base>b base>c base>d a>e b>e c>e d>e", 8, 5, id="four parallel middles"),
        pytest.param("base>a a>b base>b", 3, 2, id="base used directly and through a parent"),
        pytest.param("base>a a>b base>b b>c base>c c>d base>d", 10, 4, id="base used at each of four levels"),
        pytest.param(
            "base>a base>b a>b base>c a>c b>c base>d a>d b>d c>d", 15, 4, id="all earlier levels used"
        ),
        pytest.param(layers(2, 2), 6, 4, id="width 2, 2 layers"),
        pytest.param(layers(2, 3), 14, 6, id="width 2, 3 layers"),
        pytest.param(layers(2, 4), 30, 8, id="width 2, 4 layers"),
        pytest.param(layers(2, 5), 62, 10, id="width 2, 5 layers"),
        pytest.param(layers(3, 3), 39, 9, id="width 3, 3 layers"),
        pytest.param(layers(3, 4), 120, 12, id="width 3, 4 layers"),
        pytest.param(layers(3, 5), 363, 15, id="width 3, 5 layers"),
    ],
)
def test_each_image_is_built_once_where_naive_triggering_builds_it_for_each_path(
    arrows: str, naive: int, needed: int
) -> None:
    chain = settle(chain_of(arrows))
    assert naive_builds(chain, "base") == naive
    planned = [build.id for build in plan(chain, "base") if build.id != "base"]
    move(chain, image("base"), "v1", at=1)
    built = run_all(chain, now=1)
    assert len(built) == needed
    assert sorted(built) == sorted(planned) == sorted(chain.graph.descendants_of("base"))


def test_a_base_that_is_a_project_is_built_once_itself() -> None:
    chain = settle(chain_of(layers(3, 4)))
    chain.apply(RebuildAsked(project="base", at=1))
    assert len(run_all(chain, now=1)) == 13


def test_all_bases_that_move_in_one_window_build_each_descendant_once() -> None:
    bases = [f"base{number}" for number in range(4)]
    edges = [edge(app, base) for app in ("a", "b") for base in bases] + [edge("c", "a"), edge("c", "b")]
    chain = settle(Chain(Graph([project(name) for name in [*bases, "a", "b", "c"]], edges), immediate()))
    for base in bases:
        move(chain, image(base), "v1", at=1)
    assert run_all(chain, now=1) == ["a", "b", "c"]
