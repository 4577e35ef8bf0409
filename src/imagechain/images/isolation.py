"""Choose how buildah isolates RUN: as asked, else in containers where they run here, else by chroot."""

import contextlib
import os
from pathlib import Path

import msgspec

from imagechain.images import process
from imagechain.images.process import ProgramError

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_PROBE_SECONDS_MAX = 20.0
_WHY_CHARACTERS_MAX = 200
_FOLDERS = tuple(folder for folder in ("/usr", "/bin", "/lib", "/lib64") if Path(folder).is_dir())


class _Remembered(msgspec.Struct, frozen=True):
    """The answer of a probe: true for this user until the machine starts again."""

    boot_id: str
    uid: int
    isolation: str
    why: str


async def choose_isolation(cache_folder: Path) -> tuple[str, str]:
    """Choose how buildah isolates RUN: as asked, else in containers where they run here, else by chroot.

    Returns:
        The type for `--isolation`, and a line for people that says why.
    """
    asked = os.environ.get("BUILDAH_ISOLATION")
    if asked:
        return asked, "BUILDAH_ISOLATION says so"
    file = cache_folder / "isolation.json"
    boot_id, uid = _boot_id(), os.getuid()
    try:
        known = msgspec.json.decode(file.read_bytes(), type=_Remembered)
        if boot_id and (known.boot_id, known.uid) == (boot_id, uid):
            return known.isolation, known.why
    except (OSError, msgspec.DecodeError):
        pass  # not asked yet
    preferred = "oci" if uid == 0 else "rootless"
    refusal = await _probe(preferred)
    if refusal is None:
        chosen = preferred, "containers run here"
    else:
        chosen = "chroot", f"a container could not be run here ({refusal})"
    with contextlib.suppress(OSError):  # then it is asked again the next time
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(msgspec.json.encode(_Remembered(boot_id, uid, *chosen)))
    return chosen


async def _probe(isolation: str) -> str | None:
    """Run `true` of this machine in a container made of its own folders; return why that failed."""
    volumes = [f"--volume={folder}:{folder}:ro" for folder in _FOLDERS]
    try:
        container = (await _buildah("from", "scratch")).decode().strip()
        try:
            await _buildah("run", "--isolation", isolation, *volumes, container, "--", "/usr/bin/true")
        finally:
            await _buildah("rm", container)
    except ProgramError as error:
        return str(error).strip().splitlines()[-1][:_WHY_CHARACTERS_MAX]
    return None


async def _buildah(*arguments: str) -> bytes:
    return (await process.run(["buildah", *arguments], timeout_seconds=_PROBE_SECONDS_MAX)).check().output


def _boot_id() -> str:
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""
