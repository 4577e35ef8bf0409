"""The few small files of a layer that vetting reads: what is installed, and where it comes from.

Layers are read from a file, and never unpacked to a folder. Formats: image-spec, `layer.md` (whiteouts).
"""

import posixpath
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from imagechain.vetting.unpack import UnpackError, members, unpacking

#: Largest layer that is fetched.
LAYER_BYTES_MAX = 2 * 1024 * 1024 * 1024
#: Unpacked.
LAYER_UNPACKED_BYTES_MAX = 16 * 1024 * 1024 * 1024
#: All files together that are taken out of it.
WANTED_BYTES_MAX = 32 * 1024 * 1024

OS_RELEASE = ("etc/os-release", "usr/lib/os-release")
DPKG_STATUS = "var/lib/dpkg/status"
#: Distroless images have a file for each package here.
DPKG_STATUS_FOLDER = "var/lib/dpkg/status.d/"
APK_INSTALLED = ("lib/apk/db/installed", "usr/lib/apk/db/installed")
APT_SOURCES = "etc/apt/sources.list"
APT_SOURCES_FOLDER = "etc/apt/sources.list.d/"
APK_REPOSITORIES = "etc/apk/repositories"
APK_REPOSITORY_FOLDERS = ("etc/apk/repositories.d/", "lib/apk/repositories.d/", "usr/lib/apk/repositories.d/")

_FILES = frozenset({*OS_RELEASE, DPKG_STATUS, *APK_INSTALLED, APT_SOURCES, APK_REPOSITORIES})
_FOLDERS = (DPKG_STATUS_FOLDER, APT_SOURCES_FOLDER, *APK_REPOSITORY_FOLDERS)
_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"


class LayerError(Exception):
    """A layer that cannot be read; the message says why."""


class LayerFiles(msgspec.Struct, frozen=True):
    """What a layer holds of the wanted files."""

    files: dict[str, str] = {}
    #: Paths of files and folders of lower layers that it removes; a folder ends with a slash.
    removed: tuple[str, ...] = ()


def read_layer(path: Path) -> LayerFiles:
    """Take the wanted files out of a layer, packed by gzip, zstd or not at all.

    Raises:
        LayerError: it is no tar archive, of an unknown compression, or too large.
    """
    files: dict[str, str] = {}
    removed: list[str] = []
    wanted_bytes = 0
    try:
        with path.open("rb") as raw, unpacking(raw, LAYER_UNPACKED_BYTES_MAX) as unpacked:
            for written, size, file in members(unpacked):
                name = posixpath.normpath(written).lstrip("/")
                folder, base = posixpath.split(name)
                if base == _OPAQUE:
                    removed.append(f"{folder}/")
                elif base.startswith(_WHITEOUT):
                    gone = posixpath.join(folder, base.removeprefix(_WHITEOUT))
                    removed += [gone, f"{gone}/"]
                elif file is not None and _is_wanted(name):
                    wanted_bytes += size
                    if wanted_bytes > WANTED_BYTES_MAX:
                        raise LayerError(f"its lists of packages have more than {WANTED_BYTES_MAX} bytes")
                    files[name] = file.read().decode(errors="replace")
    except UnpackError as error:
        raise LayerError(str(error)) from error
    return LayerFiles(files, tuple(removed))


def _is_wanted(name: str) -> bool:
    return name in _FILES or name.startswith(_FOLDERS)


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
