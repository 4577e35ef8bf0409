"""The machine's clock, made so that it never goes back, not over restarts either."""

import asyncio
import time

from imagechain.service.ports import Clock


class SystemClock:
    """Unix time. When somebody turns the machine's clock back, it goes on from where it was."""

    def __init__(self) -> None:
        self._now = time.time()
        self._monotonic = time.monotonic()

    def now(self) -> float:
        """Tell the Unix time."""
        monotonic = time.monotonic()
        self._now = max(time.time(), self._now + monotonic - self._monotonic)
        self._monotonic = monotonic
        return self._now

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)


class ClockFrom:
    """Another clock, put forward if need be, so that it begins not before a time.

    What is read after a restart is newer than all that was read before, though the machine's clock was put
    back meanwhile, or another machine was the one that acted.
    """

    def __init__(self, clock: Clock, begin: float) -> None:
        self._clock = clock
        self._ahead_seconds = max(begin - clock.now(), 0.0)

    def now(self) -> float:
        """Tell the Unix time."""
        return self._clock.now() + self._ahead_seconds

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await self._clock.sleep(seconds)
