"""The dashboard: what its pages cost the loop, of many images.

`python benchmarks/dashboard.py [--images N ...]`. Many images are stale. The baseline is the answer of
`/api/v1/status`, which tells of all images, in the same run. Times are those of the processor.
"""

# ruff: noqa: D102 - twins do what the protocol says

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable

from starlette.testclient import TestClient

from imagechain.chain import Chain, Dependency, Graph, ImageFound, Policy, Source, VersionRead
from imagechain.service.known import Known
from imagechain.service.ports import Scan
from imagechain.store import open_store
from imagechain.web import Measure, make_app
from imagechain.web.overview import Overview

ROUNDS = 5
CHILDREN = 4


class Service:
    """A service that knows a tree of images, of which a part has moved."""

    turned_at = 0.0
    gitlab_down_since: float | None = None
    gitlab_trouble = ""

    def __init__(self, count: int) -> None:
        names = [f"group/p{number:06}" for number in range(count)]
        sources = tuple(Source(id=name, kind="project", images=(f"r.io/{name}:latest",)) for name in names)
        edges = tuple(
            Dependency(
                child=names[number],
                parent=names[number // CHILDREN],
                kind="from",
                file="Containerfile",
                line=1,
                image=f"r.io/{names[number // CHILDREN]}:latest",
            )
            for number in range(1, count)
        )
        self.scan = Scan(projects=(), sources=sources, dependencies=edges)
        self.chain = Chain(Graph(sources, edges), Policy())
        self.at = 0.0
        for name in names:
            self.move(name)
        for name in names:
            self.chain.apply(ImageFound(project=name, at=self.at, inputs=None))
        for name in names[count // 10 : count // 5]:
            self.move(name)

    def move(self, name: str) -> None:
        """Let a source become another version."""
        self.at += 1
        self.chain.apply(VersionRead(input=f"r.io/{name}:latest", version=str(self.at), at=self.at))

    def look(self) -> Known:
        """Give what is known."""
        return Known(chain=self.chain, scan=self.scan)

    async def known(self) -> Known:
        return self.look()

    def wake(self) -> None:
        pass

    def measures(self) -> Iterable[Measure]:
        return ()


def seconds(run: Callable[[], object]) -> float:
    """Tell how much of the processor something takes, in the median."""
    times = []
    for _ in range(ROUNDS):
        began = time.process_time()
        run()
        times.append(time.process_time() - began)
    return statistics.median(times)


def measure(count: int) -> None:
    """Print what pages of so many images cost."""
    service = Service(count)
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(f"sqlite:///{folder}/store.db")
        app = make_app(store, service, hook_key=b"0" * 32, api_token="x" * 32)
        client = TestClient(app)

        # Pages of other addresses are made anew.
        numbers = itertools.count()

        def page(path: str) -> Callable[[], object]:
            return lambda: client.get(f"{path}?n={next(numbers)}").raise_for_status()

        etag = client.get("/").headers["etag"]
        baseline = seconds(lambda: client.get("/api/v1/status"))
        for what, taken in (
            (
                "a look at all, once after a change",
                seconds(lambda: Overview(service.look(), ())),
            ),
            ("/", seconds(page("/"))),
            ("/ that was seen before", seconds(lambda: client.get("/", headers={"If-None-Match": etag}))),
            ("/graph", seconds(page("/graph"))),
            ("/cascades", seconds(page("/cascades"))),
            ("the page of the base of all", seconds(page("/images/group/p000000"))),
        ):
            print(f"{count} images: {what}: {taken * 1000:.1f} ms, {taken / baseline:.3f} of /api/v1/status")
        store.close()


def main() -> None:
    """Measure what the arguments say."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs="*", default=[1_000, 20_000])
    for count in parser.parse_args().images:
        measure(count)


if __name__ == "__main__":
    main()
