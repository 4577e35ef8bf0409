"""The machine's clock, made so that it never jumps."""

import asyncio
import time
from collections.abc import Callable


def _boot_seconds() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class SystemClock:
    """Unix time when the service started, and the seconds that really passed since, sleep of the machine too.

    Somebody may set the machine's clock, forward or back: what lasts a minute lasts a minute all the same. A
    request that may still start a pipeline is not forgotten, no running build is called overdue.

    Args:
        unix_now: the machine's clock.
        elapsed: seconds since any moment, which nobody can set.
    """

    def __init__(
        self, unix_now: Callable[[], float] = time.time, elapsed: Callable[[], float] = _boot_seconds
    ) -> None:
        self._elapsed = elapsed
        self._begin = unix_now() - elapsed()

    def now(self) -> float:
        """Tell the Unix time."""
        return self._begin + self._elapsed()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)
