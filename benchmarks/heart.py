"""How fast the heart is: loading, the first decision, and one observation, on growing graphs.

Run with `python benchmarks/heart.py [--projects 100000]`. Every figure stands beside a baseline of the same
run: networkx for the graph, recomputing everything for an observation. What must hold: the cost of one
observation does not grow with the rest of the graph.
"""

import argparse
import gc
import random
import resource
import time
from collections.abc import Callable, Iterable
from statistics import median

import networkx as nx

from imagechain.chain import (
    Chain,
    Dependency,
    Graph,
    ImageFound,
    Policy,
    Source,
    VersionRead,
    decide,
    status,
)

DEPENDENCIES_PER_PROJECT = 3
EXTERNALS_SHARE = 50
#: Projects of a part of its own, in every graph: an observation of its root affects only them.
ISLAND_PROJECTS = 100
REPEATS = 20
SEED = 20_260_101


def image(name: str) -> str:
    return f"registry.example.com/{name}:latest"


def make(projects: int) -> tuple[list[Source], list[Dependency]]:
    """Make random projects on external images, and an island that is the same in every graph."""
    rng = random.Random(SEED)
    names = [f"group/p{number:06}" for number in range(projects)]
    sources, dependencies = [], []
    externals = max(1, projects // EXTERNALS_SHARE)
    for number, name in enumerate(names):
        is_external = number < externals
        sources.append(
            Source(
                id=image(name) if is_external else name,
                kind="external" if is_external else "project",
                images=(image(name),),
            )
        )
        if is_external:
            continue
        if number >= projects - ISLAND_PROJECTS:
            parents = {number - 1} if number > projects - ISLAND_PROJECTS else {0}
        else:
            parents = {
                rng.randrange(max(0, number - projects // 4), number) for _ in range(DEPENDENCIES_PER_PROJECT)
            }
        for line, parent in enumerate(sorted(parents), start=1):
            dependencies.append(
                Dependency(
                    child=name,
                    parent=sources[parent].id,
                    kind="from" if line == 1 else "copy-from",
                    file="Containerfile",
                    line=line,
                    image=image(names[parent]),
                )
            )
    return sources, dependencies


def timed(act: Callable[[], object]) -> float:
    gc.collect()
    begin = time.perf_counter()
    act()
    return time.perf_counter() - begin


def observe_all(chain: Chain) -> None:
    """Let the chain be seen for the first time: versions, then images with their records."""
    for name in chain.graph.input_names:
        chain.apply(VersionRead(input=name, version="v0", at=0.0))
    for source in chain.graph.sources:
        if source.kind == "project":
            inputs = dict.fromkeys(chain.graph.inputs_of(source.id), "v0")
            chain.apply(ImageFound(project=source.id, at=0.0, inputs=inputs))


def ready_chain(projects: int) -> Chain:
    chain = Chain(Graph(*make(projects)), Policy(quiet_seconds=0.0))
    observe_all(chain)
    return chain


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure_load(projects: int) -> None:
    sources, dependencies = make(projects)
    memory_before = peak_mib()
    chains: list[Chain] = []
    load_seconds = timed(
        lambda: chains.append(Chain(Graph(sources, dependencies), Policy(quiet_seconds=0.0)))
    )
    chain = chains[0]
    observe_seconds = timed(lambda: observe_all(chain))
    roots = [source.id for source in sources if source.kind == "external"]
    move_seconds = timed(lambda: move_all(chain, roots))
    decide_seconds = timed(lambda: decide(chain, 2.0))
    status_seconds = timed(lambda: status(chain))
    total_seconds = load_seconds + observe_seconds + move_seconds + decide_seconds
    peak = peak_mib()
    networkx_seconds = timed(lambda: walk_with_networkx(sources, dependencies))
    print(f"{projects} sources, {len(dependencies)} dependencies")
    print(f"  load graph and chain         {load_seconds:8.2f} s")
    print(f"  first observations of all    {observe_seconds:8.2f} s")
    print(f"  all external images move     {move_seconds:8.2f} s")
    print(f"  first decision               {decide_seconds * 1e3:8.2f} ms")
    print(f"  all of that                  {total_seconds:8.2f} s")
    print(f"  status of all                {status_seconds:8.2f} s")
    print(f"  peak memory                  {peak:8.0f} MiB, {memory_before:.0f} MiB of it before the chain")
    print(f"  networkx: graph, generations, descendants of one {networkx_seconds:.2f} s")
    print(f"  ratio load / networkx        {load_seconds / networkx_seconds:8.2f}")
    print(f"  ratio all / networkx         {total_seconds / networkx_seconds:8.2f}")


def move_all(chain: Chain, roots: Iterable[str]) -> None:
    for root in roots:
        chain.apply(VersionRead(input=root, version="v1", at=1.0))


def walk_with_networkx(sources: list[Source], dependencies: list[Dependency]) -> None:
    graph: nx.DiGraph[str] = nx.DiGraph()
    graph.add_nodes_from(source.id for source in sources)
    graph.add_edges_from((str(dependency.parent), dependency.child) for dependency in dependencies)
    for _ in nx.topological_generations(graph):
        pass
    nx.descendants(graph, sources[0].id)


def measure_observation(projects: int) -> tuple[float, float]:
    """Give the median seconds of an observation that affects the island, and of recomputing everything."""
    chain = ready_chain(projects)
    root = image(f"group/p{projects - ISLAND_PROJECTS:06}")
    spans = [
        timed_once(chain, VersionRead(input=root, version=f"v{count % 2}", at=float(count)))
        for count in range(1, REPEATS + 1)
    ]
    return median(spans), timed(lambda: recompute(chain))


def timed_once(chain: Chain, observation: VersionRead) -> float:
    begin = time.perf_counter()
    chain.apply(observation)
    decide(chain, observation.at)
    return time.perf_counter() - begin


def recompute(chain: Chain) -> list[bool]:
    """Find stale and settled of all sources from scratch, as simply as possible: the baseline."""
    facts, graph = chain.facts, chain.graph
    settled = [True] * len(graph.ids)
    for number in graph.order():
        record = facts.states[number].record
        if record is not None:
            is_fresh = facts.present(number) == record.versions
            settled[number] = is_fresh and all(settled[parent] for parent in graph.parents[number])
    return settled


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--projects", type=int, default=100_000, help="size of the largest graph")
    largest = parser.parse_args().projects
    measure_load(largest)
    print(f"one observation and a decision, {ISLAND_PROJECTS} sources affected, median of {REPEATS}")
    smallest = None
    for projects in (largest // 10, largest * 3 // 10, largest):
        seconds, naive = measure_observation(projects)
        smallest = smallest or seconds
        print(f"  {projects:7} sources             {seconds * 1e6:8.0f} µs")
        print(f"    ratio to the smallest graph{seconds / smallest:8.2f}")
        print(f"    ratio recomputing all / it {naive / seconds:8.0f}")


if __name__ == "__main__":
    main()
