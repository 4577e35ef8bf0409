"""A loop whose time is virtual: instead of waiting it jumps to the next timer. Every run is deterministic."""

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

from imagechain.service.clock import SystemClock

#: Unix time at which every simulation begins.
BEGIN = 1_700_000_000.0


class _Jump(selectors.SelectSelector):
    """Never waits: tells the loop how long it would have."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            raise AssertionError("the simulation waits for nothing: a lost wake-up")
        self.now += max(timeout, 0.0)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jump = _Jump()
        super().__init__(self._jump)

    def time(self) -> float:
        return self._jump.now


def machine_clock(ahead_seconds: Callable[[], float]) -> SystemClock:
    """Make the real clock of a service, on a machine whose own clock is wrong by so much."""
    loop = asyncio.get_running_loop()
    return SystemClock(lambda: BEGIN + loop.time() + ahead_seconds(), loop.time)


def run_virtual(main: Coroutine[Any, Any, None]) -> None:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(main)
