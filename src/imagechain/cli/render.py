"""A graph as text: a tree for people, dot and mermaid for drawing programs. Pure."""

from collections.abc import Iterable, Mapping, Sequence

from imagechain.chain import Dependency, DependencyKind, Source

_ARROWS: Mapping[DependencyKind, str] = {
    "from": "-->",
    "copy-from": "-.->",
    "mount-from": "-.->",
    "onbuild": "-.->",
    "declared": "==>",
}
_OTHER_ARROW = "-.-"


def tree_lines(
    sources: Sequence[Source], dependencies: Iterable[Dependency], cycles: Iterable[Sequence[str]] = ()
) -> list[str]:
    """Draw what is built on what, with the sources that are built on nothing at the left.

    A source that hangs below several parents is drawn once in full; elsewhere it is marked with `…`.
    A cycle is drawn from its first member.
    """
    known = {source.id: source for source in sources}
    children: dict[str, dict[str, set[str]]] = {source.id: {} for source in sources}
    has_parent: set[str] = set()
    for dependency in dependencies:
        if dependency.parent is not None and dependency.needed:
            children[dependency.parent].setdefault(dependency.child, set()).add(dependency.kind)
            has_parent.add(dependency.child)
    lines: list[str] = []
    drawn: set[str] = set()

    def draw(roots: Iterable[str]) -> None:
        # A stack of its own: chains may be deeper than Python's.
        stack = [(root, "", "", "") for root in sorted(roots, reverse=True)]
        while stack:
            node, lead, branch, how = stack.pop()
            below = sorted(children[node], reverse=True)
            again = node in drawn and bool(below)
            lines.append(f"{lead}{branch}{node}{how}{_publishes(known[node])}{' …' if again else ''}")
            if again:
                continue
            drawn.add(node)
            deeper = lead + {"": "", "├── ": "│   ", "└── ": "    "}[branch]
            for index, child in enumerate(below):
                kinds = ", ".join(sorted(children[node][child] - {"from"}))
                how = f" ({kinds})" if kinds else ""
                stack.append((child, deeper, "├── " if index else "└── ", how))

    draw(source.id for source in sources if source.id not in has_parent)
    # What is left hangs below a cycle; the rest is for cycles of edges that make nothing stale.
    for start in (*(cycle[0] for cycle in cycles), *(source.id for source in sources)):
        if start not in drawn:
            draw([start])
    return lines


def _publishes(source: Source) -> str:
    return f"  → {', '.join(source.images)}" if source.kind == "project" and source.images else ""


def dot(sources: Sequence[Source], dependencies: Iterable[Dependency]) -> str:
    """Write the graph in Graphviz's language."""
    lines = ["digraph imagechain {", "  rankdir=LR;", '  node [shape=box, fontname="sans-serif"];']
    for source in sources:
        style = ", style=dashed" if source.kind == "external" else ""
        lines.append(f"  {_quoted(source.id)} [label={_quoted(source.id)}{style}];")
    for parent, child, kind, needed in _edges(dependencies):
        attributes = [] if kind == "from" else [f"label={_quoted(kind)}"]
        if not needed:
            attributes.append("style=dotted")
        suffix = f" [{', '.join(attributes)}]" if attributes else ""
        lines.append(f"  {_quoted(parent)} -> {_quoted(child)}{suffix};")
    lines.append("}")
    return "\n".join(lines)


def mermaid(sources: Sequence[Source], dependencies: Iterable[Dependency]) -> str:
    """Write the graph in Mermaid's language, as GitLab shows it in a Markdown page."""
    names = {source.id: f"n{index}" for index, source in enumerate(sources)}
    lines = ["graph LR"]
    for source in sources:
        label = source.id.replace('"', "#quot;")
        shape = f'(["{label}"])' if source.kind == "external" else f'["{label}"]'
        lines.append(f"  {names[source.id]}{shape}")
    for parent, child, kind, needed in _edges(dependencies):
        arrow = _ARROWS.get(kind, _OTHER_ARROW) if needed else _OTHER_ARROW
        label = "" if kind == "from" else f"|{kind}|"
        lines.append(f"  {names[parent]} {arrow}{label} {names[child]}")
    return "\n".join(lines)


def _edges(dependencies: Iterable[Dependency]) -> list[tuple[str, str, DependencyKind, bool]]:
    """Each pair of parent, child and kind once; needed where any line of it is."""
    needed: dict[tuple[str, str, DependencyKind], bool] = {}
    for dependency in dependencies:
        if dependency.parent is not None:
            key = (dependency.parent, dependency.child, dependency.kind)
            needed[key] = needed.get(key, False) or dependency.needed
    return [(*key, value) for key, value in needed.items()]


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
