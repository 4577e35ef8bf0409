"""The machine's clock."""

import asyncio
import time


class SystemClock:
    """Time as the machine tells it."""

    def now(self) -> float:
        """Tell the Unix time."""
        return time.time()

    def seconds(self) -> float:
        """Tell a time that nobody turns back, in seconds."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds)
