"""The service: from the hint to the request that starts the next pipeline, and what a start costs.

`python benchmarks/service.py [--projects N ...]`. GitLab and the registry answer at once: what is left is
the service's own time: intake, follow-up, decision, three commits to SQLite. The baseline is a decision on
the same chain in memory, without asking or writing anything.
"""

# ruff: noqa: ARG002, ASYNC110, D102 - twins take what the protocol gives

import argparse
import asyncio
import hashlib
import logging
import resource
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec
import structlog

from imagechain.chain import Dependency, Policy, Source, decide
from imagechain.service.acting import Ports
from imagechain.service.clock import SystemClock
from imagechain.service.loop import Service, ServiceSettings
from imagechain.service.ports import ImageRead, Pipeline, PipelinesFound, Scan, TrackedProject
from imagechain.store import Hint, open_store

ROUNDS = 60
CHILDREN = 9


class World:
    """Bases with some children each; GitLab and the registry at once, and always in good health."""

    def __init__(self, count: int) -> None:
        self.names = [f"group/p{number:06}" for number in range(count)]
        self.number = {name: number for number, name in enumerate(self.names, 1)}
        self.parent = {
            name: self.names[number - number % (CHILDREN + 1)]
            for number, name in enumerate(self.names)
            if number % (CHILDREN + 1)
        }
        self.content = {reference(name): "0" for name in self.names}
        self.built_from = {name: {reference(parent): "0"} for name, parent in self.parent.items()} | {
            name: {} for name in self.names if name not in self.parent
        }
        now = time.time() - 10
        self.pipelines = {number: pipeline(number, number, "success", now) for number in self.number.values()}
        self.started: asyncio.Queue[str] = asyncio.Queue()

    async def scan(self) -> Scan:
        sources = [Source(id=name, kind="project", images=(reference(name),)) for name in self.names]
        edges = [
            Dependency(
                child=name, parent=parent, kind="from", file="Containerfile", line=1, image=reference(parent)
            )
            for name, parent in self.parent.items()
        ]
        projects = [
            TrackedProject(source=name, project_id=number, ref="main") for name, number in self.number.items()
        ]
        return Scan(projects=tuple(projects), sources=tuple(sources), dependencies=tuple(edges))

    async def read(self, name: str) -> ImageRead:
        source = name.removeprefix("registry.example.com/").removesuffix(":latest")
        content = self.content[name]
        digest = "sha256:" + hashlib.sha256(f"{name} {content}".encode()).hexdigest()
        return ImageRead(digest=digest, content=content, inputs=self.built_from[source])

    async def latest_pipelines(self, projects: Sequence[TrackedProject]) -> PipelinesFound:
        return PipelinesFound([self.pipelines[project.project_id] for project in projects])

    async def pipelines_since(self, projects: Sequence[TrackedProject], after: float) -> PipelinesFound:
        return PipelinesFound([one for one in self.pipelines.values() if one.updated_at > after])

    async def pipeline(self, project_id: int, pipeline_id: int) -> Pipeline | None:
        return self.pipelines.get(pipeline_id)

    async def pipelines_after(self, project: TrackedProject, pipeline_id: int) -> Sequence[Pipeline]:
        return []

    async def create_pipeline(self, project: TrackedProject, variables: Mapping[str, str]) -> Pipeline:
        number = len(self.pipelines) + 1
        self.pipelines[number] = pipeline(number, project.project_id, "running", time.time())
        self.started.put_nowait(project.source)
        return self.pipelines[number]

    def finish(self, source: str, number: int, content: str) -> None:
        self.content[reference(source)] = content
        if (parent := self.parent.get(source)) is not None:
            self.built_from[source] = {reference(parent): self.content[reference(parent)]}
        self.pipelines[number] = msgspec.structs.replace(
            self.pipelines[number], status="success", updated_at=time.time(), finished_at=time.time()
        )


def reference(name: str) -> str:
    return f"registry.example.com/{name}:latest"


def pipeline(number: int, project: int, status: str, at: float) -> Pipeline:
    return Pipeline(
        id=number,
        project_id=project,
        ref="main",
        sha="0" * 40,
        source="push",
        status=status,
        created_at=at,
        updated_at=at,
        finished_at=at if status == "success" else None,
    )


async def measure(count: int, folder: Path) -> None:
    world = World(count)
    store = open_store(f"sqlite:///{folder / f'{count}.db'}")
    policy = Policy(quiet_seconds=0.0, builds_max=1_000_000, starts_per_minute_max=None)
    ports = Ports(forge=world, images=world, store=store, clock=SystemClock())  # type: ignore[arg-type]
    service = Service(ports, ServiceSettings(policy=policy))
    begin = time.perf_counter()
    running = asyncio.create_task(service.run())
    while service.chain is None or len(service.chain.graph.ids) < count or service.turned_at == 0:
        await asyncio.sleep(0.01)
    while any(state.record is None for state in service.chain.facts.states):
        await asyncio.sleep(0.01)
    start_seconds = time.perf_counter() - begin
    await asyncio.sleep(1)
    bases = [name for name in world.names if name not in world.parent]
    waits = []
    for turn in range(ROUNDS):
        source = bases[turn % len(bases)]
        number = len(world.pipelines) + 1
        world.pipelines[number] = pipeline(number, world.number[source], "running", time.time())
        world.finish(source, number, f"{turn + 1}")
        hint = Hint(kind="pipeline", project_id=world.number[source], pipeline_id=number)
        before = time.perf_counter()
        await store.add_hint(hint, f"key {turn}", time.time())
        service.wake()
        await world.started.get()
        waits.append(time.perf_counter() - before)
        for _ in range(CHILDREN - 1):
            await world.started.get()
        await asyncio.sleep(0.05)
    before = time.perf_counter()
    for _ in range(100):
        decide(service.chain, time.time())
    decision = (time.perf_counter() - before) / 100
    running.cancel()
    store.close()
    median, worst = statistics.median(waits), sorted(waits)[int(len(waits) * 0.95)]
    mebibytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{count:6} projects: start {start_seconds:6.2f} s, memory {mebibytes:5.0f} MiB, hint to request "
        f"median {median * 1e3:5.1f} ms, p95 {worst * 1e3:5.1f} ms, {median / decision:6.0f} times a decision"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--projects", type=int, nargs="*", default=[1_000, 20_000])
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    with tempfile.TemporaryDirectory() as folder:
        for count in parser.parse_args().projects:
            asyncio.run(measure(count, Path(folder)))


if __name__ == "__main__":
    main()
