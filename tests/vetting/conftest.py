from collections.abc import Iterator

import pytest
import structlog

from registry.servers import open_registry

__all__ = ["open_registry"]


@pytest.fixture(autouse=True)
def events_go_where_they_went_before() -> Iterator[None]:
    """A command sends them to a standard error that is gone after its test."""
    yield
    structlog.reset_defaults()
