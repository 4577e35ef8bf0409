"""What the containers of one user are, and whether their images have moved. Changes nothing.

Costs three calls of podman and, where nothing has moved, a HEAD for each image.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from imagechain.hosts.check import Found, check_all
from imagechain.hosts.command_line import Grammar
from imagechain.hosts.host import Host
from imagechain.hosts.plan import STOCK_TIMER, Facts, is_local, references, tracked, unit_name
from imagechain.hosts.state import Memory
from imagechain.hosts.values import AUTHFILE_LABEL, AUTOUPDATE_LABEL, Container, Image, Moved
from imagechain.refs import Reference

_NO_GRAMMAR = Grammar({}, {})


async def look(host: Host, memory: Memory, now: float) -> tuple[Facts, Memory]:
    """Find out all that a plan needs; return it with what is to be remembered.

    Raises:
        PodmanError: podman does not answer.
    """
    facts = await _observe(host, memory)
    wanted = references(facts, host.settings)
    found: dict[str, Found] = {}
    for auth_file, names in _by_login(facts.containers, wanted).items():
        async with host.make_client(Path(auth_file) if auth_file else None) as client:
            running = {name: _running(name, facts) for name in names}
            found |= await check_all(client, names, running, facts.images, memory.holds)
    memory = _remember(memory, found, now)
    checks = {name: one.check for name, one in found.items()}
    has_moved = any(isinstance(check, Moved) for check in checks.values())
    facts = msgspec.structs.replace(
        facts,
        checks=checks,
        grammar=await host.podman.grammar() if has_moved else _NO_GRAMMAR,
        held=frozenset(memory.held),
        first_seen=memory.first_seen,
    )
    return facts, memory


async def _observe(host: Host, memory: Memory) -> Facts:
    pods = await host.podman.pods()
    containers = tuple(
        msgspec.structs.replace(container, pod_name=pods.get(container.id, ""))
        for container in await host.podman.containers(list(pods))
    )
    local = {
        str(name) for one in containers if isinstance(name := tracked(one), Reference) and is_local(name)
    }
    ids = {container.image for container in containers if container.image}
    images: dict[str, Image] = {}
    for image in await host.podman.images(sorted(ids | local)):
        images[image.id] = image
        images |= dict.fromkeys(image.repo_tags or (), image)
    names = {name for container in containers if (name := unit_name(container, containers))}
    if names and any(AUTOUPDATE_LABEL in container.labels for container in containers):
        names.add(STOCK_TIMER)
    pids = [pid for one in containers for pid in (one.state.conmon_pid, one.state.pid)]
    return Facts(
        containers=containers,
        images=images,
        units=await host.systemd.units(sorted(names), pids),
        has_systemd=host.systemd.is_here,
        grammar=_NO_GRAMMAR,
        held=frozenset(memory.held),
        first_seen=memory.first_seen,
    )


def _by_login(
    containers: Iterable[Container], wanted: Mapping[str, Reference]
) -> dict[str, dict[str, Reference]]:
    """Split what is followed by the auth file that a label names; the first of an image counts."""
    files: dict[str, str] = {}
    for container in containers:
        files.setdefault(str(tracked(container)), container.labels.get(AUTHFILE_LABEL, ""))
    split: dict[str, dict[str, Reference]] = {}
    for name, reference in wanted.items():
        split.setdefault(files[name], {})[name] = reference
    return split


def _running(name: str, facts: Facts) -> list[Image]:
    ids = {one.image for one in facts.containers if not one.is_helper and str(tracked(one)) == name}
    return [facts.images[id] for id in sorted(ids) if id in facts.images]


def _remember(memory: Memory, found: Mapping[str, Found], now: float) -> Memory:
    """Take note of digests; a hold ends when its tag names something else."""
    first_seen, holds, held = dict(memory.first_seen), dict(memory.holds), dict(memory.held)
    for name, one in found.items():
        if isinstance(one.check, Moved):
            first_seen.setdefault(one.check.digest, now)
        digest = getattr(one.check, "digest", "")
        if digest and one.image_id:
            holds[digest] = one.image_id
        if digest:
            held = {old: why for old, why in held.items() if why.reference != name or old == digest}
    return Memory(held, first_seen, holds)
