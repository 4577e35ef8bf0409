"""A server that is killed under load, again and again, has every hint that it acknowledged.

`KILLS=200 KILLS_SEED=7 pytest tests/web/test_killed.py` kills more often; the seed says when.
"""

import asyncio
import itertools
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from random import Random

import httpx2
import pytest

from imagechain.store import open_store
from store.postgresql import Server
from web.parts import pipeline_body, with_token

TESTS = Path(__file__).parents[1]
KILLS = int(os.environ.get("KILLS", "3"))
SEED = int(os.environ.get("KILLS_SEED", "1"))
#: The server is killed after so many answers, or before, while it starts.
LIFE_ANSWERS_MAX = 300
CLIENTS = 8


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/imagechain.db"
    server = request.getfixturevalue("postgresql")
    assert isinstance(server, Server)
    return server.database()


async def _hammer(
    port: int, numbers: Iterator[int], process: subprocess.Popen[str], life_answers: int
) -> set[int]:
    """Send deliveries, each once, and kill the server in the middle; give those that it acknowledged."""
    acknowledged: set[int] = set()

    async def send() -> None:
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=10) as client:
            for number in numbers:
                try:
                    answer = await client.post(
                        "/hooks/gitlab",
                        content=pipeline_body(pipeline_id=number),
                        headers=with_token(id=str(number)),
                    )
                except httpx2.HTTPError:
                    return
                assert answer.status_code == 202, answer.text
                acknowledged.add(number)
                if len(acknowledged) == life_answers:
                    process.kill()

    await asyncio.gather(*(send() for _ in range(CLIENTS)))
    return acknowledged


def _live(url: str, numbers: Iterator[int], life_answers: int) -> set[int]:
    """Start a server and kill it after so many answers; give the hooks that it acknowledged."""
    with subprocess.Popen(
        [sys.executable, "-m", "web.hammered", url], stdout=subprocess.PIPE, text=True, cwd=TESTS
    ) as process:
        assert process.stdout is not None
        if life_answers == 0:
            # While it opens the store and looks after what the last one left.
            process.kill()
            return set()
        port = int(process.stdout.readline())
        taken = asyncio.run(_hammer(port, numbers, process, life_answers))
    assert len(taken) >= life_answers
    return taken


def test_no_acknowledged_hint_is_lost_under_repeated_kills(url: str) -> None:
    numbers = itertools.count(1)
    random = Random(SEED)  # noqa: S311 - the seed says when
    acknowledged: set[int] = set()
    for _ in range(KILLS):
        taken = _live(url, numbers, random.choice([0, 1, random.randint(2, LIFE_ANSWERS_MAX)]))
        assert not taken & acknowledged
        acknowledged |= taken

    store = open_store(url)
    stored = [item.hint.pipeline_id for item in asyncio.run(store.hints(1_000_000))]
    store.close()
    assert len(stored) == len(set(stored))
    assert acknowledged <= set(stored)
    # What was stored and not acknowledged is only what was on its way at a kill.
    assert len(set(stored) - acknowledged) <= KILLS * CLIENTS
