"""Ctrl-C and TERM (a cancelled CI job) stop work in order: its programs are stopped, its secrets removed."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import TypeVar

_T = TypeVar("_T")


async def stoppable(work: Coroutine[None, None, _T], interrupted: _T) -> _T:
    """Turn signals into a cancellation: the first asks programs to stop, the second kills them.

    Args:
        work: What is done.
        interrupted: The result where it was stopped.
    """
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    try:
        return await task
    except asyncio.CancelledError:
        return interrupted
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
