import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from store.postgresql import Server, running_server


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    # Not pytest's own folder: the path of a Unix socket has at most 107 bytes, and another user must get in.
    with tempfile.TemporaryDirectory(prefix="imagechain-") as folder, running_server(Path(folder)) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/imagechain.db"
    server: Server = request.getfixturevalue("postgresql")
    return server.database()
