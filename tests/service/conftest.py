from collections.abc import Iterator

import pytest
import structlog

from store.conftest import postgresql

__all__ = ["postgresql"]


@pytest.fixture(autouse=True)
def own_logs() -> Iterator[None]:
    """`serve` sets the log up for its process: here, for one test."""
    yield
    structlog.reset_defaults()
