from collections.abc import Iterator

import pytest
import stamina


@pytest.fixture(autouse=True)
def no_waiting() -> Iterator[None]:
    """Ask registries again at once."""
    with stamina.set_testing(True, attempts=1, cap=True):
        yield
