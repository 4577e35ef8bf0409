"""The folder of one build: private, locked as long as the build lasts, and removed with all that is in it.

What a build leaves behind that was killed is told by its lock, which nobody holds any more.
"""

import contextlib
import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_LOCK = "lock"


@contextlib.contextmanager
def work_folder(around: Path) -> Iterator[Path]:
    """Make a folder that only this user may look into, and remove it at the end."""
    around.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=around, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        with (folder / _LOCK).open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield folder


def leftovers(around: Path) -> list[Path]:
    """List the folders of builds that were killed."""
    found = []
    with contextlib.suppress(FileNotFoundError):
        found = [folder for folder in around.iterdir() if not _is_held(folder)]
    return found


def remove_leftovers(folders: list[Path]) -> None:
    """Remove the folders of builds that were killed."""
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def _is_held(folder: Path) -> bool:
    try:
        descriptor = os.open(folder / _LOCK, os.O_RDONLY)
    except OSError:
        # It was just made, or is just being removed.
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False
