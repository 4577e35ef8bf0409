"""The drawings of a graph: each source and each edge is there, once."""

import re
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from imagechain.chain import Dependency, DependencyKind, Source
from imagechain.cli import render


def project(id: str) -> Source:
    return Source(id=id, kind="project", images=(f"localhost/{id}:latest",), file=f"{id}/Containerfile")


def edge(child: str, parent: str, kind: DependencyKind = "from", needed: bool = True) -> Dependency:
    return Dependency(
        child=child,
        parent=parent,
        kind=kind,
        file=f"{child}/Containerfile",
        line=1,
        image=None,
        needed=needed,
    )


DIAMOND = (
    [
        Source(id="docker.io/library/debian:12", kind="external"),
        *map(project, ("app", "base", "left", "right")),
    ],
    [
        edge("base", "docker.io/library/debian:12"),
        edge("left", "base"),
        edge("right", "base"),
        edge("app", "left"),
        edge("app", "right", "copy-from"),
    ],
)


def test_a_tree_shows_a_shared_child_in_full_once() -> None:
    lines = render.tree_lines(*DIAMOND)
    assert lines == [
        "docker.io/library/debian:12",
        "└── base  → localhost/base:latest",
        "    ├── left  → localhost/left:latest",
        "    │   └── app  → localhost/app:latest",
        "    └── right  → localhost/right:latest",
        "        └── app (copy-from)  → localhost/app:latest",
    ]


def test_a_subtree_that_was_drawn_before_is_only_named_again() -> None:
    sources, edges = DIAMOND
    lines = render.tree_lines([*sources, project("leaf")], [*edges, edge("leaf", "app")])
    assert sum("leaf" in line for line in lines) == 1
    assert any(line.endswith("app (copy-from)  → localhost/app:latest …") for line in lines)


def test_members_of_a_cycle_are_drawn() -> None:
    lines = render.tree_lines(
        [project("a"), project("b"), project("c")],
        [edge("a", "b"), edge("b", "a"), edge("c", "b")],
        [("a", "b")],
    )
    assert [line.split("  →")[0] for line in lines] == ["a", "└── b", "    ├── a", "    └── c"]


def test_a_deep_chain_does_not_exhaust_the_stack() -> None:
    ids = [f"p{index:05}" for index in range(3_000)]
    edges = [edge(child, parent) for parent, child in pairwise(ids)]
    assert len(render.tree_lines([project(id) for id in ids], edges)) == len(ids)


def test_dot_and_mermaid_tell_the_kind_and_what_is_not_needed() -> None:
    sources, edges = DIAMOND
    unused = edge("left", "docker.io/library/debian:12", "mount-from", needed=False)
    drawn = render.dot(sources, [*edges, unused])
    assert '"right" -> "app" [label="copy-from"];' in drawn
    assert '"docker.io/library/debian:12" -> "left" [label="mount-from", style=dotted];' in drawn
    assert '"base" -> "left";' in drawn
    assert '[label="docker.io/library/debian:12", style=dashed];' in drawn
    lines = render.mermaid(sources, [*edges, unused]).splitlines()
    assert lines[0] == "graph LR"
    assert "  n4 -.->|copy-from| n1" in lines
    assert "  n0 -.-|mount-from| n3" in lines
    assert '  n0(["docker.io/library/debian:12"])' in lines


_ids = st.lists(
    st.text(alphabet='ab"\\/ :\n'.replace("\n", ""), min_size=1, max_size=5),
    unique=True,
    min_size=1,
    max_size=6,
)


@given(_ids, st.data())
def test_any_graph_is_drawn_whole(ids: list[str], data: st.DataObject) -> None:
    pairs = data.draw(st.lists(st.tuples(st.sampled_from(ids), st.sampled_from(ids)), max_size=12))
    sources = [project(id) for id in ids]
    edges = [edge(child, parent) for parent, child in pairs]
    drawn = render.dot(sources, edges)
    # Every quote that stands in a name is escaped: what is left comes in pairs.
    assert len(re.findall(r'(?<!\\)(?:\\\\)*"', drawn)) % 2 == 0
    assert drawn.count(" -> ") >= len(set(pairs))
    assert len(render.mermaid(sources, edges).splitlines()) == 1 + len(ids) + len(set(pairs))
    tree = "\n".join(render.tree_lines(sources, edges))
    assert all(id in tree for id in ids)
