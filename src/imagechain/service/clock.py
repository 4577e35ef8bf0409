"""The machine's clock, made so that it never goes back, not over restarts either."""

import asyncio
import time
from collections.abc import Callable

from imagechain.service.ports import Clock


class SystemClock:
    """Unix time. When somebody turns the machine's clock back, it goes on from where it was.

    Args:
        unix_now: the machine's clock, which anybody may set.
        monotonic_now: its clock that only goes on.
    """

    def __init__(
        self, unix_now: Callable[[], float] = time.time, monotonic_now: Callable[[], float] = time.monotonic
    ) -> None:
        self._unix_now = unix_now
        self._monotonic_now = monotonic_now
        self._now = unix_now()
        self._monotonic = monotonic_now()

    def now(self) -> float:
        """Tell the Unix time."""
        monotonic = self._monotonic_now()
        self._now = max(self._unix_now(), self._now + monotonic - self._monotonic)
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
