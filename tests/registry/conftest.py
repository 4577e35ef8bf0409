from collections.abc import Iterator

import pytest
import stamina

from registry.servers import open_registry, password_registry, token_registry

__all__ = ["open_registry", "password_registry", "token_registry"]


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    """Try again at once, as often as in earnest."""
    with stamina.set_testing(True, attempts=3, cap=True):
        yield
