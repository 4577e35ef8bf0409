"""What happens in a simulated world: random graphs, faults and people, and how all of it must end."""

import asyncio
from collections.abc import Callable
from math import isqrt
from random import Random
from typing import Any

from chain.world import edge, external, image, project
from imagechain.chain import Dependency, DependencyKind, Graph, Source, status
from sim.twins import LATE_SECONDS_MAX
from sim.world import Faults, World

#: Virtual seconds in which a world that is calm shows that nothing happens any more: longer than any pause.
STILL_SECONDS = 450.0
#: Virtual seconds that a world gets to come to rest, for each of its sources.
REST_SECONDS_MAX = 1_200.0

MakeStore = Callable[[], Any]


def random_graph(random: Random, sources_max: int = 9) -> tuple[list[Source], list[Dependency]]:
    """Externals, chains, diamonds; some declared dependencies; parents always come first."""
    count = random.randint(2, sources_max)
    sources: list[Source] = []
    dependencies = []
    for number in range(count):
        name = f"p{number}"
        if number == 0 or random.random() < 0.2:
            sources.append(external(name))
            continue
        sources.append(project(name))
        for parent in random.sample(sources[:-1], k=min(len(sources) - 1, random.randint(0, 3))):
            kind: DependencyKind = (
                "declared" if parent.kind == "project" and random.random() < 0.2 else "from"
            )
            dependencies.append(edge(name, parent.id, kind))
    return sources, dependencies


def random_faults(random: Random) -> Faults:
    return Faults(
        crash=random.choice([0.0, 0.002, 0.01]),
        unsure=random.choice([0.0, 0.2]),
        late=random.choice([0.0, 0.2]),
        busy=random.choice([0.0, 0.05, 0.2]),
        slow=random.choice([0.0, 0.0, 0.05]),
        image=random.choice([0.0, 0.1]),
        store=random.choice([0.0, 0.0, 0.005]),
        hook_lost=random.choice([0.0, 0.3, 1.0]),
        hook_doubled=random.choice([0.0, 0.3]),
        hook_delay=random.choice([0.0, 5.0, 60.0]),
        build=random.choice([0.0, 0.0, 0.2]),
        skew=random.choice([0.0, 0.0, 30.0]),
        partly=random.choice([0.0, 0.0, 0.1]),
    )


def random_world(random: Random, seed: int, store: Any) -> World:
    """Make a world; graphs grow with the seed."""
    sources, dependencies = random_graph(random, 8 + isqrt(seed))
    names = [source.id for source in sources if source.kind == "project"]
    broken = frozenset(random.sample(names, k=min(len(names), random.choice([0, 0, 0, 1]))))
    constant = frozenset(name for name in names if random.random() < 0.2)
    return World(sources, dependencies, random, random_faults(random), broken, constant, store=store)


#: How wrong a clock may be.
_CLOCKS = (-86_400.0, -600.0, 0.0, 10.0, 600.0, 3_600.0, 86_400.0)


async def live(world: World, replicas: int, make_store: MakeStore, *, noise: bool) -> None:
    """Let things happen for some minutes, with faults; then let the world come to rest without them."""
    random = world.random
    externals = [source.id for source in world.sources if source.kind == "external"]
    world.signs = random.random() < 0.5
    world.gone = {name for name in world.project_id if noise and random.random() < 0.1}
    world.was_gone |= world.gone
    if noise and random.random() < 0.2:
        world.ahead_seconds = random.choice(_CLOCKS)
        world.gitlab_ahead_seconds = random.choice(_CLOCKS)
    for name in world.project_id:
        world.start(name, "push", seconds=1.0, outcome="success")
    await asyncio.sleep(2)
    for _ in range(replicas):
        world.launch()
    for count in range(random.randint(2, 8)):
        await asyncio.sleep(random.uniform(1, 90))
        world.move(random.choice(externals), f"v{count + 1}")
        if noise and world.project_id:
            await make_noise(world, random.choice(list(world.project_id)), replicas, make_store)
    world.faults = Faults(skew=world.faults.skew)
    await come_to_rest(world)
    assert_at_rest(world)
    await world.stop()


async def make_noise(world: World, name: str, replicas: int, make_store: MakeStore) -> None:
    """Do what people, machines and other programs do."""
    random = world.random
    jobs = [job for job in world.jobs.values() if job.source == name]
    match random.randrange(10):
        case 0:
            world.start(name, "push")
        case 1:
            world.cancel(jobs[-1])
        case 2 if jobs[-1].pipeline.status in {"failed", "canceled"} and name not in world.broken:
            world.retry(jobs[-1])
        case 3 | 4:
            # Archived, or moved out of the groups, or back.
            world.gone ^= {name}
            world.was_gone.add(name)
        case 5:
            world.paths[name] = f"{name}-{world.number()}"
        case 6:
            # Of the machine on which a service starts next, or GitLab's own.
            if random.random() < 0.5:
                world.ahead_seconds = random.choice(_CLOCKS)
            else:
                world.gitlab_ahead_seconds = random.choice(_CLOCKS)
        case 7:
            # GitLab is upgraded to 19, or was set up again as it was before.
            world.signs = not world.signs
        case 8:
            await lose_store(world, replicas, make_store)
        case _:
            world.start(name, "merge_request_event", outcome="failed")


async def lose_store(world: World, replicas: int, make_store: MakeStore) -> None:
    """Stop everything, lose the store, and begin again without one."""
    await world.stop()
    # What was asked for just before is known to nobody now: it must be there to be seen.
    await asyncio.sleep(LATE_SECONDS_MAX)
    world.store = make_store()
    world.store_losses += 1
    for _ in range(replicas):
        world.launch()


async def come_to_rest(world: World) -> None:
    """Wait until nothing happens any more."""
    still = 0
    for _ in range(int(REST_SECONDS_MAX / STILL_SECONDS * (3 + len(world.sources)))):
        before = len(world.jobs)
        await asyncio.sleep(STILL_SECONDS / 3)
        idle = not (world.running() or world.asked or world.store.intents or world.store.inbox)
        still = still + 1 if idle and len(world.jobs) == before else 0
        if still == 3:
            return
    raise AssertionError("it never comes to rest")


def assert_at_rest(world: World) -> None:
    """Each image is built from what is now, or is held up by a project that fails, and that is named."""
    assert not world.complaints, world.complaints
    assert not world.running()
    assert not world.store.intents
    assert not world.store.inbox
    builds = [job for job in world.jobs.values() if job.pipeline.source != "merge_request_event"]
    last = {job.source: job.pipeline.status for job in builds}
    held = world.broken | {source for source, outcome in last.items() if outcome in {"failed", "canceled"}}
    held_paths = {world.paths[name] for name in held}
    chain = world.leader.chain
    assert chain is not None
    scan = world.scan()
    assert set(chain.graph.ids) == {source.id for source in scan.sources}
    names = {path: name for name, path in world.paths.items()}
    for shown in status(chain):
        if shown.kind == "external":
            assert shown.version == world.versions[shown.id]
        elif shown.state == "fresh":
            _assert_built_from_what_is_now(world, names[shown.id], chain.graph)
        elif shown.state == "failed":
            assert shown.id in held_paths, shown
        else:
            assert shown.state == "blocked", shown
            assert shown.blocked_by
            assert set(shown.blocked_by) <= held_paths, shown
    assert_hooks_are_kept(world)


def assert_hooks_are_kept(world: World) -> None:
    """Each project has our webhook once; one that left has none, unless nobody knows any more that it had."""
    for name, number in world.project_id.items():
        hooks = world.hooks.get(number, [])
        assert len(hooks) == (name not in world.gone) or (world.store_losses and len(hooks) == 1), name


def _assert_built_from_what_is_now(world: World, name: str, graph: Graph) -> None:
    known = {one for one in graph.inputs_of(world.paths[name]) if one in world.versions}
    built, now = world.images[image(name)].inputs, world.inputs_now(name)
    assert built is not None
    assert {one: built[one] for one in known} == {one: now[one] for one in known}, name
