"""What is in a layer: every entry of its tar file, with all that makes two layers differ.

Content is hashed as it goes by; nothing is unpacked. Shapes: OCI image-spec `layer.md`, tar(5), pax.
"""

import hashlib
import tarfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Literal

import msgspec

#: Entries of one layer.
ENTRIES_MAX = 5_000_000
_CHUNK_BYTES = 1024 * 1024
_XATTR_PREFIX = "SCHILY.xattr."
_KINDS = {
    tarfile.REGTYPE: "file",
    tarfile.AREGTYPE: "file",
    tarfile.DIRTYPE: "folder",
    tarfile.SYMTYPE: "link",
    tarfile.LNKTYPE: "hard link",
    tarfile.CHRTYPE: "device",
    tarfile.BLKTYPE: "device",
    tarfile.FIFOTYPE: "pipe",
}
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"

What = Literal["kind", "bytes", "target", "mode", "owner", "time", "xattr"]


class LayerError(Exception):
    """A layer cannot be read; the message says why."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One entry of a layer."""

    kind: str
    #: Hash of the content.
    bytes: str
    #: Of a link; numbers of a device.
    target: str
    mode: int
    owner: tuple[int, int]
    #: Seconds, as a text because pax has fractions.
    time: str
    xattr: tuple[tuple[str, str], ...]

    def differences(self, other: "Entry") -> tuple[What, ...]:
        """Say in what two entries differ."""
        return tuple(
            name
            for name in ("kind", "bytes", "target", "mode", "owner", "time", "xattr")
            if getattr(self, name) != getattr(other, name)
        )


def read_layer(file: Path) -> dict[str, Entry]:
    """Read a layer, compressed or not; of several entries with one path the last counts.

    Raises:
        LayerError: it is no layer that can be read.
    """
    entries: dict[str, Entry] = {}
    try:
        with file.open("rb") as stream:
            if stream.peek(4)[:4] == _ZSTD_MAGIC:
                raise LayerError(
                    f"{file.name} is compressed by zstd, which cannot be read here; pull the image, and "
                    "compare it from the local store"
                )
            with tarfile.open(fileobj=stream, mode="r|*") as tar:
                for info in tar:
                    entries[_path(info.name)] = _entry(tar, info)
                    if len(entries) > ENTRIES_MAX:
                        raise LayerError(f"{file.name} has more than {ENTRIES_MAX} entries")
                    # tarfile keeps all that it has seen.
                    tar.members.clear()  # type: ignore[attr-defined] # not in typeshed, as it is not documented
    except (tarfile.TarError, zlib.error, EOFError, OSError) as error:
        raise LayerError(f"the layer {file.name} cannot be read: {error}") from error
    return entries


def _path(name: str) -> str:
    return name.removeprefix("./").strip("/") or "."


def _entry(tar: tarfile.TarFile, info: tarfile.TarInfo) -> Entry:
    content = tar.extractfile(info) if info.isreg() else None
    device = f"{info.devmajor}:{info.devminor}" if info.isdev() else ""
    return Entry(
        kind=_KINDS.get(info.type, repr(info.type)),
        bytes=_hash(content) if content is not None else "",
        target=info.linkname or device,
        mode=info.mode,
        owner=(info.uid, info.gid),
        time=str(info.pax_headers.get("mtime", info.mtime)),
        xattr=_xattrs(info.pax_headers),
    )


def _xattrs(headers: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    found = (
        (key.removeprefix(_XATTR_PREFIX), value) for key, value in headers.items() if _XATTR_PREFIX in key
    )
    return tuple(sorted(found))


def _hash(content: IO[bytes]) -> str:
    digest = hashlib.sha256()
    while chunk := content.read(_CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()
