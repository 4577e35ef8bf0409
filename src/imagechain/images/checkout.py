"""Gives files of a checkout the permissions that git keeps, so that every checkout builds the same image.

git knows only whether a file can be run. The rest is the umask of whoever checked out: GitLab's runner uses
0000, a person 0022 or 0002, and each would give other layers.
"""

import os
import shutil
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from imagechain.images import process
from imagechain.images.process import ProgramError

_GIT_SECONDS_MAX = 60.0
_FOLDER_MODE = 0o755
#: How git's index writes files that can be run, and others.
_MODES = {"100755": 0o755, "100644": 0o644}


async def tracked_modes(context: Path) -> dict[str, int]:
    """Tell the permissions of files that git tracks in a folder, and of the folders around them.

    Outside of a repository, and without git, there are none.
    """
    argv = ["git", "-C", str(context), "--no-optional-locks", "ls-files", "--stage", "-z"]
    try:
        completed = await process.run(argv, timeout_seconds=_GIT_SECONDS_MAX)
    except ProgramError:
        return {}
    modes: dict[str, int] = {}
    for entry in completed.output.split(b"\0") if completed.exit_code == 0 else ():
        meta, _, path = entry.partition(b"\t")
        mode = _MODES.get(meta[:6].decode(errors="replace"))
        if mode is None:
            continue
        name = os.fsdecode(path)
        modes[name] = mode
        while name := name.rpartition("/")[0]:
            modes[name] = _FOLDER_MODE
    return modes


def needs_copy(context: Path, files: Sequence[str], modes: Mapping[str, int]) -> bool:
    """Whether some of the files have other permissions than git keeps."""
    return any(
        path in modes and stat.S_IMODE((context / path).lstat().st_mode) != modes[path] for path in files
    )


def copy_context(context: Path, target: Path, files: Sequence[str], modes: Mapping[str, int]) -> None:
    """Copy files of a context, with the permissions that git keeps.

    Args:
        context: Where they are.
        target: A folder that is made.
        files: Paths in the context, folders before what is in them.
        modes: Permissions by path; the others keep theirs.

    Raises:
        OSError: one cannot be copied.
    """
    target.mkdir()
    target.chmod(_FOLDER_MODE)
    for path in files:
        source, copy = context / path, target / path
        copy.parent.mkdir(parents=True, exist_ok=True)
        info = source.lstat()
        if stat.S_ISDIR(info.st_mode):
            copy.mkdir(exist_ok=True)
        elif stat.S_ISLNK(info.st_mode):
            copy.symlink_to(source.readlink())
            continue
        elif stat.S_ISREG(info.st_mode):
            shutil.copyfile(source, copy)
        else:
            continue  # pipes and sockets: builders skip them too
        copy.chmod(modes.get(path, stat.S_IMODE(info.st_mode)))
