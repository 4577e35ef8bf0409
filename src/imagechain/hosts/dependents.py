"""Which containers cannot be without which others; pure.

podman ties containers by ids, whether a person named ids or names: `--requires`, `--network container:X`,
`--volumes-from X` and the like. The infra container of a pod stays, so it ties nobody here.
"""

from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet

from imagechain.hosts.values import Container

#: Container id -> ids of the containers that it needs.
Needs = Mapping[str, frozenset[str]]


def needs_of(containers: Sequence[Container]) -> Needs:
    """Tell what each container needs."""
    ids = {container.id: container.id for container in containers if not container.is_helper}
    ids |= {container.name: container.id for container in containers if not container.is_helper}
    needs = {}
    for container in containers:
        host = container.host_config
        said = [*(container.dependencies or ()), host.network_mode.removeprefix("container:")]
        said += [text.partition(":")[0] for text in host.volumes_from or ()]
        needs[container.id] = frozenset(ids[text] for text in said if text in ids) - {container.id}
    return needs


def closure(ids: Iterable[str], needs: Needs) -> set[str]:
    """Add all that need one of these, over any number of steps."""
    needed_by: dict[str, list[str]] = {}
    for id, others in needs.items():
        for other in others:
            needed_by.setdefault(other, []).append(id)
    found: set[str] = set()
    todo = list(ids)
    while todo:
        id = todo.pop()
        if id not in found:
            found.add(id)
            todo += needed_by.get(id, [])
    return found


def groups(ids: AbstractSet[str], needs: Needs) -> list[list[str]]:
    """Split into groups that have nothing to do with each other, each in the order of starting."""
    near: dict[str, set[str]] = {id: set() for id in ids}
    for id in ids:
        for other in needs[id] & ids:
            near[id].add(other)
            near[other].add(id)
    left, found = set(ids), []
    while left:
        group: set[str] = set()
        todo = [min(left)]
        while todo:
            id = todo.pop()
            if id not in group:
                group.add(id)
                todo += near[id]
        left -= group
        found.append(_ordered(group, needs))
    return found


def _ordered(group: AbstractSet[str], needs: Needs) -> list[str]:
    ordered: list[str] = []
    left = set(group)
    while left:
        ready = sorted(id for id in left if not needs[id] & left)
        if not ready:
            # podman lets nobody make such a ring.
            ready = sorted(left)
        ordered += ready
        left -= set(ready)
    return ordered
