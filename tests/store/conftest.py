import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagechain.store import Store
from store.postgresql import Server, running_server


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Server]:
    # Not pytest's own folder: the path of a Unix socket has at most 107 bytes, and another user must get in.
    with tempfile.TemporaryDirectory(prefix="imagechain-") as folder, running_server(Path(folder)) as server:
        yield server


@pytest.fixture
def own_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let leases go by the time that callers tell, also on PostgreSQL."""
    monkeypatch.setattr(Store, "_present", lambda _self, _connection, now: now)


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/imagechain.db"
    server: Server = request.getfixturevalue("postgresql")
    return server.database()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("a small disk can be mounted by root only")
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2M", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if mounted.returncode != 0:
        pytest.skip("mounting is not allowed here")
    yield folder
    # A test that failed may have left a file open.
    subprocess.run(["umount", "--lazy", str(folder)], check=True)
