"""Cycles of a graph in numbers: strongly connected components, found without recursion.

Chains of a hundred thousand sources are deeper than Python's stack, so every walk keeps its own.
The algorithm is Tarjan's (Depth-first search and linear graph algorithms, 1972).
"""

Neighbours = list[list[int]]


def cyclic_components(parents: Neighbours, children: Neighbours) -> list[list[int]]:
    """Find the components that contain a cycle: members sorted, components by their first member."""
    components = _strong_components(_not_ordered(parents, children), children)
    return sorted(
        sorted(component)
        for component in components
        if len(component) > 1 or component[0] in children[component[0]]
    )


def walk_component(members: list[int], children: Neighbours) -> list[int]:
    """Order a component by walking its edges from the first member: exact for a simple cycle."""
    unvisited = set(members)
    path = []
    stack = [members[0]]
    while stack:
        number = stack.pop()
        if number in unvisited:
            unvisited.remove(number)
            path.append(number)
            stack.extend(child for child in reversed(children[number]) if child in unvisited)
    return path


def _not_ordered(parents: Neighbours, children: Neighbours) -> set[int]:
    """Take away what has an order (Kahn): the rest is in a cycle, or below one. Mostly nothing is."""
    missing = [len(found) for found in parents]
    ready = [number for number, count in enumerate(missing) if not count]
    left = set(range(len(parents)))
    while ready:
        number = ready.pop()
        left.remove(number)
        for child in children[number]:
            missing[child] -= 1
            if not missing[child]:
                ready.append(child)
    return left


def _strong_components(suspects: set[int], children: Neighbours) -> list[list[int]]:
    index: dict[int, int] = {}
    low: dict[int, int] = {}
    open_numbers: list[int] = []
    is_open: set[int] = set()
    components = []
    for root in sorted(suspects):
        if root in index:
            continue
        calls = [(root, iter(children[root]))]
        index[root] = low[root] = len(index)
        open_numbers.append(root)
        is_open.add(root)
        while calls:
            number, rest = calls[-1]
            child = next((child for child in rest if child not in index or child in is_open), None)
            if child is None:
                calls.pop()
                if calls:
                    caller = calls[-1][0]
                    low[caller] = min(low[caller], low[number])
                if low[number] == index[number]:
                    component: list[int] = []
                    while not component or component[-1] != number:
                        component.append(open_numbers.pop())
                    is_open.difference_update(component)
                    components.append(component)
            elif child in index:
                low[number] = min(low[number], index[child])
            else:
                index[child] = low[child] = len(index)
                open_numbers.append(child)
                is_open.add(child)
                calls.append((child, iter(children[child])))
    return components
