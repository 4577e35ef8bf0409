"""The machine's clock, made so that it never goes back."""

import asyncio
import time


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
