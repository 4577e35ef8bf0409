import logging
import os
import tempfile
from collections.abc import Callable, Iterator
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


@pytest.fixture
def stores(request: pytest.FixtureRequest) -> Iterator[Callable[[], Any]]:
    """Make empty stores of one kind; on a database the one before is lost."""
    if request.param == "memory":
        yield MemoryStore
        return
    made: list[InlineStore] = []
    with tempfile.TemporaryDirectory(prefix="imagechain-") as folder:

        def make() -> InlineStore:
            if made:
                made[-1].close()
            if request.param == "sqlite":
                url = f"sqlite:///{Path(folder) / str(len(made))}.db"
            else:
                server = request.getfixturevalue("postgresql")
                url = server.database()
            made.append(open_inline(url))
            return made[-1]

        yield make
        made[-1].close()
