"""The few small files of a layer that vetting reads: what is installed, and where it comes from.

Layers are read from a file, and never unpacked to a folder. Formats: image-spec, `layer.md` (whiteouts).
"""

import posixpath
import tarfile
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import IO

import msgspec

#: Largest layer that is fetched.
LAYER_BYTES_MAX = 2 * 1024 * 1024 * 1024
#: Largest file that is taken out of it.
WANTED_BYTES_MAX = 32 * 1024 * 1024
_MEMBERS_MAX = 2_000_000

OS_RELEASE = ("etc/os-release", "usr/lib/os-release")
DPKG_STATUS = "var/lib/dpkg/status"
#: Distroless images have a file for each package here.
DPKG_STATUS_FOLDER = "var/lib/dpkg/status.d/"
APK_INSTALLED = ("lib/apk/db/installed", "usr/lib/apk/db/installed")
APT_SOURCES = "etc/apt/sources.list"
APT_SOURCES_FOLDER = "etc/apt/sources.list.d/"
APK_REPOSITORIES = "etc/apk/repositories"

_FILES = frozenset({*OS_RELEASE, DPKG_STATUS, *APK_INSTALLED, APT_SOURCES, APK_REPOSITORIES})
_FOLDERS = (DPKG_STATUS_FOLDER, APT_SOURCES_FOLDER)
_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"


class LayerError(Exception):
    """A layer that cannot be read; the message says why."""


class LayerFiles(msgspec.Struct, frozen=True):
    """What a layer holds of the wanted files."""

    files: dict[str, str] = {}
    #: Paths of files and folders of lower layers that it removes; a folder ends with a slash.
    removed: tuple[str, ...] = ()


def read_layer(path: Path, media_type: str) -> LayerFiles:
    """Take the wanted files out of a layer.

    Raises:
        LayerError: it is no tar archive, of an unknown compression, or too large.
    """
    if media_type.endswith("zstd"):
        raise LayerError("it is compressed by zstd, which is not read")
    files: dict[str, str] = {}
    removed: list[str] = []
    try:
        # `r|*` would try compressions that no layer has.
        with (
            path.open("rb") as raw,
            tarfile.open(fileobj=raw, mode="r|gz" if _is_gzip(raw) else "r|") as archive,
        ):
            for number, member in enumerate(archive):
                if number > _MEMBERS_MAX:
                    raise LayerError(f"it holds more than {_MEMBERS_MAX} files")
                name = posixpath.normpath(member.name).lstrip("/")
                folder, base = posixpath.split(name)
                if base == _OPAQUE:
                    removed.append(f"{folder}/")
                elif base.startswith(_WHITEOUT):
                    gone = posixpath.join(folder, base.removeprefix(_WHITEOUT))
                    removed += [gone, f"{gone}/"]
                elif member.isreg() and _is_wanted(name):
                    files[name] = _text(archive, member)
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise LayerError(f"it is no archive that can be read: {error}") from error
    return LayerFiles(files, tuple(removed))


def _is_gzip(raw: IO[bytes]) -> bool:
    start = raw.read(2)
    raw.seek(0)
    return start == b"\x1f\x8b"


def _is_wanted(name: str) -> bool:
    return name in _FILES or name.startswith(_FOLDERS)


def _text(archive: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    if member.size > WANTED_BYTES_MAX:
        raise LayerError(f"{member.name} in it is larger than {WANTED_BYTES_MAX} bytes")
    file = archive.extractfile(member)
    return file.read().decode(errors="replace") if file is not None else ""


def stack(layers: Sequence[LayerFiles]) -> dict[str, str]:
    """Lay layers on each other, the lowest first: what a container sees of the wanted files."""
    seen: dict[str, str] = {}
    for layer in layers:
        gone = frozenset(layer.removed)
        seen = {name: text for name, text in seen.items() if not _is_gone(name, gone)}
        seen |= layer.files
    return seen


def _is_gone(name: str, removed: frozenset[str]) -> bool:
    parts = name.split("/")
    folders = ("/".join(parts[:count]) + "/" for count in range(1, len(parts)))
    return name in removed or any(folder in removed for folder in folders)


def under(files: Mapping[str, str], folder: str, endings: Iterable[str] = ("",)) -> list[str]:
    """List the texts of the files in a folder, by name."""
    suffixes = tuple(endings)
    return [files[name] for name in sorted(files) if name.startswith(folder) and name.endswith(suffixes)]
