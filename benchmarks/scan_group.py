"""What it costs to scan a group of GitLab, against one request a project and file, in order.

Run: `python benchmarks/scan_group.py [PROJECTS]`. GitLab is the simulated one, in this process, and waits 50
ms before each answer. The baseline is how a plain script does it (and gitlab-deps): for each project, ask for
each file, one after the other. It is measured on a sample of the projects, for it goes up in proportion.
"""

import asyncio
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import msgspec

from imagechain.config import GitLabSettings, Settings
from imagechain.discovery.group import GroupScan, discover_group
from imagechain.discovery.group_files import Cache
from imagechain.gitlab import rest
from imagechain.gitlab.client import Client
from imagechain.gitlab.errors import NotFoundError
from imagechain.gitlab.files import Checkout
from imagechain.gitlab.pipelines import read_pipelines
from imagechain.refs import Platform
from imagechain.testing import Role, SimulatedGitLab

LATENCY_SECONDS = 0.050
PROJECTS = 1_000
PUSHES = 10
BASELINE_PROJECTS_MAX = 100
BASELINE_FILES = ("Dockerfile", ".gitlab-deps", ".gitlab-ci.yml")
SUBGROUPS = 37
#: What the issue of the service asks for, of 1,000 projects.
REQUESTS_MAX = {"scan": 60, "rescan": 15, "reconcile": 40}

SETTINGS = Settings(gitlab=GitLabSettings(groups=("images",)))
PLATFORM = Platform("linux", "amd64")


class Cost(msgspec.Struct):
    """What something took."""

    seconds: float
    requests: int


def main() -> None:
    projects = int(sys.argv[1]) if len(sys.argv) > 1 else PROJECTS
    gitlab = SimulatedGitLab(clock=time.time, seed=1)
    bot = gitlab.add_user("bot")
    token = gitlab.add_token(bot).value
    gitlab.add_group("images", members={bot: Role.MAINTAINER})
    for number in range(projects):
        parent = f"registry.example.com/{path_of(number - 1)}" if number else "docker.io/library/debian"
        files = {
            "Dockerfile": f"FROM {parent}\nRUN make\n",
            "README.md": f"# {number}\n",
            ".gitlab-ci.yml": "build: {image: quay.io/buildah/stable, script: [make]}\n",
        }
        gitlab.add_project(path_of(number), files=files)
    gitlab.state.faults.latency_seconds = LATENCY_SECONDS
    costs, found = asyncio.run(measure(gitlab, token))
    report(projects, costs, found)


def path_of(number: int) -> str:
    return f"images/g{number % SUBGROUPS}/p{number}"


async def measure(gitlab: SimulatedGitLab, token: str) -> tuple[dict[str, Cost], GroupScan]:
    costs: dict[str, Cost] = {}
    async with Client(gitlab.settings.url, lambda: token, transport=gitlab.transport()) as client:

        async def timed(name: str, work: Callable[[], Awaitable[object]]) -> None:
            client.requests_sent = 0
            start = time.perf_counter()
            await work()
            costs[name] = Cost(time.perf_counter() - start, client.requests_sent)

        found: list[GroupScan] = []

        async def scan(cache: Cache) -> None:
            found.append(await discover_group(client, SETTINGS, cache=cache, platform=PLATFORM))

        await timed("scan", lambda: scan({}))
        cache = found[0].cache
        checkouts = [
            Checkout(project=one.project, path=one.path, group=one.group, branch="main", is_default=True)
            for one in found[0].branches
        ]
        await timed("rescan", lambda: scan(cache))
        now = datetime.now(UTC)

        async def reconcile() -> None:
            await scan(cache)
            await read_pipelines(client, checkouts, updated_after=now)

        await timed("reconcile", reconcile)
        for number in range(PUSHES):
            gitlab.push(path_of(number), {"Dockerfile": "FROM quay.io/new/base\n"})
        await timed("after pushes", lambda: scan(cache))
        sample = [one.path for one in found[0].branches[:BASELINE_PROJECTS_MAX]]
        await timed("baseline", lambda: one_by_one(client, sample))
        scale = len(checkouts) / len(sample)
        baseline = costs["baseline"]
        costs["baseline"] = Cost(baseline.seconds * scale, round(baseline.requests * scale))
    return costs, found[0]


async def one_by_one(client: Client, paths: list[str]) -> None:
    """Ask for each file of each project, one after the other."""
    for path in paths:
        for name in BASELINE_FILES:
            try:
                await client.send(rest.raw_file(path, name, "HEAD", bytes_max=1_000_000))
            except NotFoundError:
                continue


def report(projects: int, costs: dict[str, Cost], found: GroupScan) -> None:
    print(f"{projects} projects, {LATENCY_SECONDS * 1_000:.0f} ms before each answer\n")
    print(f"{'':34}{'requests':>10}{'seconds':>10}{'times faster':>14}")
    baseline = costs["baseline"]
    names = {
        "baseline": "one request a project and file",
        "scan": "first scan",
        "rescan": "rescan, nothing changed",
        "reconcile": "rescan and all pipelines",
        "after pushes": f"rescan after {PUSHES} pushes",
    }
    for key, name in names.items():
        cost = costs[key]
        ratio = "" if key == "baseline" else f"{baseline.seconds / cost.seconds:.0f}"
        print(f"{name:34}{cost.requests:>10}{cost.seconds:>10.2f}{ratio:>14}")
    stored = sum(len(msgspec.msgpack.encode(one)) for one in found.cache.values())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\n{stored / projects:.0f} bytes kept for each project; peak of the process: {peak:.0f} MiB")
    if projects == PROJECTS:
        for key, requests_max in REQUESTS_MAX.items():
            assert costs[key].requests < requests_max, (key, costs[key].requests)


if __name__ == "__main__":
    main()
