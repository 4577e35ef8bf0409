"""Asking for many things in few requests: batches that are halved where GitLab fails on them."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Iterable, Sequence
from typing import Any

from imagechain.gitlab.call import Item
from imagechain.gitlab.errors import OverloadedError


async def together(works: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Do all at once; the first error ends the rest, and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for work in works:
                group.create_task(work)
    except BaseExceptionGroup as errors:
        raise errors.exceptions[0] from None


def batched_alike(
    items: Iterable[Item], alike: Callable[[Item], Hashable], *, items_max: int
) -> list[list[Item]]:
    """Part things into batches that have something in common, in their order."""
    groups: dict[Hashable, list[Item]] = {}
    for item in items:
        groups.setdefault(alike(item), []).append(item)
    return [
        group[start : start + items_max]
        for group in groups.values()
        for start in range(0, len(group), items_max)
    ]


async def in_batches(
    batches: Iterable[Sequence[Item]],
    ask: Callable[[Sequence[Item]], Awaitable[None]],
    ask_alone: Callable[[Item], Awaitable[None]],
) -> None:
    """Ask for each batch; halve those that GitLab fails on, down to single things, asked for alone."""

    async def ask_or_halve(batch: Sequence[Item]) -> None:
        try:
            await ask(batch)
        except OverloadedError:
            if len(batch) == 1:
                await ask_alone(batch[0])
                return
            middle = len(batch) // 2
            # In order: GitLab is loaded enough, and if it is down the first half says so.
            await ask_or_halve(batch[:middle])
            await ask_or_halve(batch[middle:])

    await together(ask_or_halve(batch) for batch in batches)
