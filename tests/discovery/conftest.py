"""The fixture that all tests of discovery share."""

from pathlib import Path

import pytest

from discovery.trees import Chain


@pytest.fixture
def chain(tmp_path: Path) -> Chain:
    """An empty folder, called `chain`."""
    top = tmp_path / "chain"
    top.mkdir()
    return Chain(top)
