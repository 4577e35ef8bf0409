"""How many hooks of a project are stored one by one; what comes faster is folded into one hint.

Nothing is refused: to GitLab a 4xx or 5xx is a failure, and a hook that fails often is switched off. There is
no bound by the sender's address either: behind a proxy, all hooks of a GitLab come from one.
"""

import asyncio
from collections.abc import Hashable
from typing import Generic, TypeVar

from imagechain.store import BURST_SECONDS, HintKind

#: Hooks of one project that are stored one by one in `BURST_SECONDS`.
HINTS_PER_BURST_MAX = 100
#: What no look at a project finds again: comments that are commands, deployments that are to be told. People
#: and environments make few of them, and each is stored; the inbox is bounded as a whole.
_NEVER_FOLDED: frozenset[HintKind] = frozenset({"note", "deployment"})

Key = TypeVar("Key", bound=Hashable)


class Burst:
    """The hooks of one project that came within `BURST_SECONDS` of the first of them.

    Attributes:
        began_at: when the first came.
        hooks: how many came, but for those that are never folded.
        is_stored: whether there is a hint for those that were too many.
        turn: held by who stores that hint; the others wait for it.
    """

    def __init__(self, began_at: float) -> None:
        self.began_at = began_at
        self.hooks = 0
        self.is_stored = False
        self.turn = asyncio.Lock()

    def holds(self, now: float) -> bool:
        """Tell whether it goes on; a clock that went back ends it too."""
        return self.began_at <= now < self.began_at + BURST_SECONDS


class Bursts(Generic[Key]):
    """Counts the hooks of each project."""

    def __init__(self) -> None:
        #: The oldest first.
        self._bursts: dict[Key, Burst] = {}

    def __len__(self) -> int:
        return len(self._bursts)

    def count(self, key: Key, kind: HintKind, now: float) -> Burst | None:
        """Count a hook of a project; gives the burst to fold it into; None: it is stored itself."""
        if kind in _NEVER_FOLDED:
            return None
        burst = self._bursts.get(key)
        if burst is None or not burst.holds(now):
            self._bursts.pop(key, None)
            self._forget(now)
            burst = self._bursts[key] = Burst(now)
        burst.hooks += 1
        return burst if burst.hooks > HINTS_PER_BURST_MAX else None

    def _forget(self, now: float) -> None:
        while self._bursts:
            oldest = next(iter(self._bursts))
            if self._bursts[oldest].holds(now):
                return
            del self._bursts[oldest]
