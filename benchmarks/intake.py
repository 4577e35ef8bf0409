"""How many webhooks a second one core takes, each answered after its commit, beside the same without a store.

Run with `python benchmarks/intake.py [--seconds 4] [--connections 16]`. The server runs on one core and the
sender on another (on a machine with one core they share it). The baseline is the same app with a store that
only says yes: so the ratio is the price of durability. Rounds of both alternate; the median round counts.
"""

import argparse
import asyncio
import multiprocessing
import os
import random
import socket
import statistics
import tempfile
import time
from collections.abc import Iterable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path

import msgspec
import uvicorn

from imagechain.chain import Chain
from imagechain.gitlab.hook_secrets import HookSecrets
from imagechain.service.known import Known
from imagechain.store import BuildRow, CascadeRow, Hint, HostRow, WayRow, open_store
from imagechain.web import Measure, make_app

HOOKS_PER_SECOND_MIN = 1_000
P99_SECONDS_MAX = 0.050
ROUNDS = 3
#: As large as a pipeline hook of a project with a dozen jobs.
BODY_BYTES = 4_096

_KEY = b"a key of the benchmark, no secret"
_SECRETS = HookSecrets(_KEY)


class Round(msgspec.Struct, frozen=True):
    """What one round measured."""

    hooks_per_second: float
    p50_seconds: float
    p99_seconds: float


class NoStore:
    """Says yes, and stores nothing."""

    async def add_hint(self, _hint: Hint, _key: str, _received_at: float) -> bool:
        """Say that it is stored."""
        return True

    async def waiting_hints(self) -> int:
        """Have none."""
        return 0

    async def builds(self, _limit: int, _source: str | None = None) -> Sequence[BuildRow]:
        """Know none."""
        return ()

    async def cascades(self, _limit: int) -> Sequence[CascadeRow]:
        """Know none."""
        return ()

    async def put_host(self, _row: HostRow) -> bool:
        """Say that it is stored."""
        return True

    async def forget_host(self, _name: str) -> bool:
        """Know none."""
        return False

    async def hosts(self) -> Sequence[HostRow]:
        """Know none."""
        return ()

    async def put_ways(self, _rows: Sequence[WayRow]) -> None:
        """Keep nothing."""

    async def ways(self) -> Sequence[WayRow]:
        """Know none."""
        return ()

    async def ping(self) -> None:
        """Answer."""


class NoService:
    """Is woken, and sleeps on."""

    chain: Chain | None = None
    turned_at = 0.0
    gitlab_down_since: float | None = None
    gitlab_trouble = ""

    async def known(self) -> Known | None:
        """Know nothing."""
        return None

    def wake(self) -> None:
        """Do nothing."""

    def measures(self) -> Iterable[Measure]:
        """Count nothing."""
        return ()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--folder", type=Path, default=Path(), help="a folder on the disk to measure")
    arguments = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[-1]})
    stored, bare = [], []
    with tempfile.TemporaryDirectory(dir=arguments.folder, prefix=".intake-") as folder:
        for number in range(ROUNDS):
            stored.append(measure(f"sqlite:///{folder}/{number}.db", cores[0], arguments))
            bare.append(measure(None, cores[0], arguments))
    print(f"{BODY_BYTES} byte pipeline hooks, {arguments.connections} connections, {ROUNDS} rounds each")
    durable, baseline = median(stored), median(bare)
    for name, result in (("stored, then answered", durable), ("answered at once", baseline)):
        print(
            f"{name:24} {result.hooks_per_second:8,.0f} hooks/s   p50 {result.p50_seconds * 1e3:6.1f} ms"
            f"   p99 {result.p99_seconds * 1e3:6.1f} ms"
        )
    print(f"durability leaves {durable.hooks_per_second / baseline.hooks_per_second:.2f} of the rate")
    assert durable.hooks_per_second >= HOOKS_PER_SECOND_MIN, f"fewer than {HOOKS_PER_SECOND_MIN} hooks/s"
    assert durable.p99_seconds < P99_SECONDS_MAX, f"p99 is not below {P99_SECONDS_MAX} s"


def median(rounds: Sequence[Round]) -> Round:
    return sorted(rounds, key=lambda result: result.hooks_per_second)[len(rounds) // 2]


def measure(url: str | None, core: int, arguments: argparse.Namespace) -> Round:
    ours, theirs = multiprocessing.get_context("spawn").Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(url, core, theirs))
    server.start()
    port = int(ours.recv())
    try:
        result = asyncio.run(hammer(port, arguments.seconds, arguments.connections))
    finally:
        server.terminate()
        server.join()
    return result


def serve(url: str | None, core: int, ready: Connection) -> None:
    os.sched_setaffinity(0, {core})
    store = NoStore() if url is None else open_store(url)
    app = make_app(store, NoService(), hook_key=_KEY, api_token="unused")  # noqa: S106 - guards nothing here
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(1_024)
    ready.send(listener.getsockname()[1])
    config = uvicorn.Config(app, log_level="error", access_log=False, lifespan="off", loop="uvloop")
    uvicorn.Server(config).run(sockets=[listener])


async def hammer(port: int, seconds: float, connections: int) -> Round:
    """Send hooks over connections that are kept, one after the other on each."""
    waits: list[float] = []
    end = time.perf_counter() + seconds

    async def send(connection: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        rng = random.Random(connection)
        number = 0
        while (begin := time.perf_counter()) < end:
            number += 1
            writer.write(request(rng.randrange(1, 1_000), f"{connection}-{number}", number))
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 202"), head
            length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
            await reader.readexactly(length)
            waits.append(time.perf_counter() - begin)
        writer.close()

    begin = time.perf_counter()
    await asyncio.gather(*(send(connection) for connection in range(connections)))
    cuts = statistics.quantiles(waits, n=100)
    return Round(len(waits) / (time.perf_counter() - begin), cuts[49], cuts[98])


def request(project_id: int, delivery: str, pipeline_id: int) -> bytes:
    body = b'{"object_kind":"pipeline","object_attributes":{"id":%d},"project":{"id":%d},"builds":[' % (
        pipeline_id,
        project_id,
    ) + b",".join([b'{"id":1,"name":"build","status":"success"}'] * 90)
    body += b" " * (BODY_BYTES - len(body) - 2) + b"]}"
    head = (
        f"POST /hooks/gitlab HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        f"webhook-id: {delivery}\r\nX-Gitlab-Token: {token(project_id)}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


_tokens: dict[int, str] = {}


def token(project_id: int) -> str:
    """Give a project's token; derived once, for the sender is not what is measured."""
    if project_id not in _tokens:
        _tokens[project_id] = _SECRETS.token(project_id)
    return _tokens[project_id]


if __name__ == "__main__":
    main()
