"""Do several things at once, and let none of them go on when one has failed.

`asyncio.gather` hands on the first failure and leaves the others running, until `asyncio.run` cancels what is
left: with it a task of asyncio's own that connects the pipes of a program that is just being started. The end
of that program is then never seen, and imagechain would wait for it for ever (Python 3.11).
"""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar, overload

_T = TypeVar("_T")
_One = TypeVar("_One")
_Two = TypeVar("_Two")


@overload
async def together(
    one: Coroutine[Any, Any, _One], two: Coroutine[Any, Any, _Two], /
) -> tuple[_One, _Two]: ...


@overload
async def together(*work: Coroutine[Any, Any, _T]) -> tuple[_T, ...]: ...


async def together(*work: Coroutine[Any, Any, Any]) -> tuple[Any, ...]:
    """Do all of this at once, and give the results in the same order.

    Raises:
        Exception: the first failure; by then the others were cancelled and have ended.
    """
    failures: tuple[Exception, ...] = ()
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one) for one in work]
    except ExceptionGroup as error:
        failures = error.exceptions
    if failures:
        raise failures[0]
    return tuple(task.result() for task in tasks)
