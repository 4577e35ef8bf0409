"""Asking for many things in few requests: batches that are halved where GitLab fails on them."""

from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence

from imagechain.gitlab.call import Item
from imagechain.gitlab.errors import OverloadedError
from imagechain.together import together


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

    await together(*map(ask_or_halve, batches))
