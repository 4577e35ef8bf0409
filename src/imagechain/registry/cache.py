"""A bounded cache whose entries may expire. Every memory of the registry client is one of these."""

import math
from collections.abc import Callable
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Cache(Generic[K, V]):
    """The most recently used entries, up to a total weight."""

    def __init__(self, weight_max: int, clock: Callable[[], float]) -> None:
        self._weight_max = weight_max
        self._clock = clock
        self._weight = 0
        #: Value, the time it expires at, weight; the least recently used first.
        self._entries: dict[K, tuple[V, float, int]] = {}

    def get(self, key: K) -> V | None:
        """Look an entry up; None where there is none, or it has expired."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if entry[1] <= self._clock():
            self.drop(key)
            return None
        self._entries[key] = self._entries.pop(key)
        return entry[0]

    def put(self, key: K, value: V, *, seconds: float = math.inf, weight: int = 1) -> None:
        """Remember a value for some time; the least recently used make room for it."""
        self.drop(key)
        self._entries[key] = (value, self._clock() + seconds, weight)
        self._weight += weight
        while self._weight > self._weight_max:
            self.drop(next(iter(self._entries)))

    def drop(self, key: K) -> None:
        """Forget an entry, if it is there."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            self._weight -= entry[2]
