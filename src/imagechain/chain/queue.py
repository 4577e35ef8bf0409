"""A priority queue of numbers whose keys may change, and which can be read in order without changing it."""

from collections.abc import Iterator
from heapq import heapify, heappop, heappush
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=tuple[float, ...])

#: Outdated entries that may stay in a heap besides as many as there are valid ones.
_OUTDATED_MAX = 64


class Queue(Generic[Key]):
    """Numbers ordered by their keys.

    An entry whose number has got another key, or none, stays in the heap as outdated until it comes up
    or outdated entries outnumber the valid ones: so every change costs only the logarithm of the length.
    """

    def __init__(self) -> None:
        self._keys: dict[int, Key] = {}
        self._heap: list[tuple[Key, int]] = []

    def put(self, number: int, key: Key) -> None:
        """Give a number its place, instead of the one it had."""
        if self._keys.get(number) != key:
            self._keys[number] = key
            heappush(self._heap, (key, number))
            self._tidy()

    def drop(self, number: int) -> None:
        """Take a number out, if it is there."""
        if self._keys.pop(number, None) is not None:
            self._tidy()

    def first(self) -> tuple[Key, int] | None:
        """Give the least key and its number; None if the queue is empty."""
        return self._heap[0] if self._heap else None

    def ordered(self) -> Iterator[tuple[Key, int]]:
        """Give keys and numbers in order; costs the logarithm of what was read for each."""
        heap = self._heap
        frontier = [(heap[0], 0)] if heap else []
        last = None
        while frontier:
            entry, place = heappop(frontier)
            for below in (2 * place + 1, 2 * place + 2):
                if below < len(heap):
                    heappush(frontier, (heap[below], below))
            if entry != last and self._is_valid(entry):
                last = entry
                yield entry

    def _is_valid(self, entry: tuple[Key, int]) -> bool:
        return self._keys.get(entry[1]) == entry[0]

    def _tidy(self) -> None:
        if len(self._heap) > 2 * len(self._keys) + _OUTDATED_MAX:
            self._heap = [(key, number) for number, key in self._keys.items()]
            heapify(self._heap)
        while self._heap and not self._is_valid(self._heap[0]):
            heappop(self._heap)
