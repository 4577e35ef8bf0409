import asyncio
import subprocess
import sys

import pytest

from imagechain.together import together

#: One thing fails after so many turns of the loop while another starts a program.
FAILING = """
import asyncio
from imagechain.images.process import run
from imagechain.together import together

async def fail(turns):
    for _ in range(turns):
        await asyncio.sleep(0)
    raise ValueError

for turns in range(10):
    try:
        asyncio.run(together(run(["true"]), fail(turns)))
    except ValueError:
        print("ended", flush=True)
"""
SECONDS_MAX = 60


def test_a_failure_while_a_program_is_being_started_ends_everything() -> None:
    argv = [sys.executable, "-c", FAILING]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=SECONDS_MAX, check=True)
    assert done.stdout.split() == ["ended"] * 10


def test_results_come_in_the_order_of_the_work() -> None:
    async def give(value: int, turns: int) -> int:
        for _ in range(turns):
            await asyncio.sleep(0)
        return value

    assert asyncio.run(together(*(give(value, 3 - value) for value in range(3)))) == (0, 1, 2)
    assert asyncio.run(together()) == ()


@pytest.mark.parametrize("cancels", [False, True])
def test_what_is_left_ends_before_the_failure_is_told(cancels: bool) -> None:
    ended: list[str] = []

    async def wait() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0)
            ended.append("orderly")

    async def fail() -> None:
        await asyncio.sleep(0)
        raise ValueError

    async def both() -> None:
        work = asyncio.create_task(together(wait(), wait() if cancels else fail(), wait()))
        await asyncio.sleep(0)
        if cancels:
            work.cancel()
        with pytest.raises(asyncio.CancelledError if cancels else ValueError):
            await work
        assert ended == ["orderly"] * (3 if cancels else 2)

    asyncio.run(both())
