"""A store of images for real builds, apart from that of the machine."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagechain.images.buildah import limit_flags

BUSYBOX = Path("/bin/busybox")
#: The smallest image that RUN works in.
BASE = """\
FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
ENV PATH=/bin
"""


def needs_buildah() -> None:
    """Skip a test where real builds cannot run."""
    if not shutil.which("buildah"):
        pytest.skip("buildah is not installed: real builds are not tested")
    if (
        not BUSYBOX.exists()
        or b"dynamically" in subprocess.run(["file", BUSYBOX], capture_output=True, check=False).stdout
        if shutil.which("file")
        else not BUSYBOX.exists()
    ):
        pytest.skip("there is no static /bin/busybox (Debian: busybox-static): real builds are not tested")


def make_store(folder: Path) -> Path:
    """Configure a store in a folder; return its configuration file."""
    conf = folder / "storage.conf"
    driver = "overlay" if os.getuid() == 0 else "vfs"
    conf.write_text(
        f'[storage]\ndriver = "{driver}"\ngraphroot = "{folder / "graph"}"\nrunroot = "{folder / "run"}"\n'
    )
    return conf


def remove_store(folder: Path) -> None:
    """Take down what the driver mounted, so that the folder can be removed."""
    subprocess.run(["umount", "-l", folder / "graph" / "overlay"], capture_output=True, check=False)


@pytest.fixture(scope="session")
def buildah_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The store of a test session; everything that is run uses it."""
    needs_buildah()
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONTAINERS_STORAGE_CONF", str(make_store(folder)))
        patch.setenv("BUILDAH_ISOLATION", "chroot")
        yield folder
    remove_store(folder)


@pytest.fixture
def empty_store(buildah_store: Path) -> Iterator[Path]:
    """The store of the session, empty at the end of the test."""
    yield buildah_store
    subprocess.run(["buildah", "rm", "--all"], capture_output=True, check=False)
    subprocess.run(["buildah", "rmi", "--all", "--force"], capture_output=True, check=False)


def buildah(*arguments: str) -> str:
    """Run buildah; return what it says."""
    command, *others = arguments
    limits = limit_flags() if command == "build" else ()
    argv = ["buildah", command, *limits, *others]
    done = subprocess.run(argv, capture_output=True, check=False, text=True)
    assert done.returncode == 0, f"{' '.join(argv)}: {done.stderr}"
    return done.stdout
