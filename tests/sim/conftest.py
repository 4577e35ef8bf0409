import logging
import os
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import structlog

from sim.inline_store import InlineStore, open_inline
from sim.memory_store import MemoryStore
from store.conftest import postgresql

__all__ = ["postgresql"]


@pytest.fixture(autouse=True)
def quiet_logs() -> Iterator[None]:
    """Thousands of simulated failures are no news."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    yield
    structlog.reset_defaults()


def cases(**counts: int) -> list[Any]:
    """Give seeds for each kind of store: so many, or those that the environment asks for."""
    one, many = os.environ.get("SIMULATION_SEED"), os.environ.get("SIMULATION_SEEDS")
    if one is not None:
        return [(kind, int(one)) for kind in counts]
    if many is not None:
        first, _, end = many.rpartition("-")
        return [(kind, seed) for kind in counts for seed in range(int(first or "0"), int(end))]
    return [(kind, seed) for kind, count in counts.items() for seed in range(count)]


class Stores:
    """Makes empty stores of one kind; on a database the one before is lost."""

    def __init__(self, kind: str, new_url: Callable[[], str]) -> None:
        self.kind = kind
        self._new_url = new_url
        self._last: InlineStore | None = None

    def __call__(self) -> Any:
        if self.kind == "memory":
            return MemoryStore()
        self.close()
        self._last = open_inline(self._new_url())
        return self._last

    def close(self) -> None:
        if self._last is not None:
            self._last.close()
            self._last = None


@pytest.fixture
def stores(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stores]:
    if request.param == "postgresql":
        stores = Stores(request.param, request.getfixturevalue("postgresql").database)
    else:
        numbers = count()
        stores = Stores(request.param, lambda: f"sqlite:///{tmp_path / str(next(numbers))}.db")
    yield stores
    stores.close()
