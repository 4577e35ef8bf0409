"""Unpacks what registries and archives keep packed, up to a bound.

What something is packed by is told by its first bytes: media types and endings of names can be wrong. Files
of several parts are read to the end: an index of Alpine is two gzip files, a layer for lazy pulling has one
for each of its files (eStargz), or many frames of zstd (zstd:chunked).
"""

import bz2
import contextlib
import gzip
import io
import lzma
import sys
import tarfile
import zlib
from collections.abc import Iterator
from typing import IO, cast

if sys.version_info >= (3, 14):
    from compression.zstd import ZstdError, ZstdFile
else:
    from backports.zstd import ZstdError, ZstdFile

#: Files in one archive.
MEMBERS_MAX = 2_000_000
#: What an archive says of one file besides its content: a long name, extended attributes.
_HEADER_BYTES_MAX = 1024 * 1024
_PIECE_BYTES = 1024 * 1024
_HEADERS = frozenset(
    {
        tarfile.XHDTYPE,
        tarfile.XGLTYPE,
        tarfile.SOLARIS_XHDTYPE,
        tarfile.GNUTYPE_LONGNAME,
        tarfile.GNUTYPE_LONGLINK,
    }
)
#: What the libraries raise at bytes that are not what they should be; tarfile follows chains of headers by
#: calling itself.
_BROKEN = (
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    ZstdError,
    EOFError,
    OSError,
    ValueError,
    RecursionError,
)


class UnpackError(Exception):
    """Bytes that cannot be unpacked, or are too many; the message says why."""


class _Bounded(io.BufferedIOBase):
    """A file that ends with an error where more comes than may."""

    def __init__(self, file: io.BufferedIOBase, bytes_max: int) -> None:
        self._file = file
        self._bytes_max = bytes_max
        self._left = bytes_max

    def read(self, size: int | None = -1, /) -> bytes:
        most = self._left + 1
        chunk = self._file.read(most if size is None or size < 0 else min(size, most))
        self._left -= len(chunk)
        if self._left < 0:
            raise UnpackError(f"it unpacks to more than {self._bytes_max} bytes")
        return chunk


class _Member(tarfile.TarInfo):
    def _proc_member(self, archive: tarfile.TarFile) -> tarfile.TarInfo:
        """Refuse headers that tarfile would read into memory, however large they say to be."""
        if self.type in _HEADERS and self.size > _HEADER_BYTES_MAX:
            raise UnpackError(f"a header in it is larger than {_HEADER_BYTES_MAX} bytes")
        found: tarfile.TarInfo = super()._proc_member(archive)  # type: ignore[misc]  # made to be overridden
        return found


@contextlib.contextmanager
def unpacking(raw: io.BufferedIOBase, bytes_max: int) -> Iterator[io.BufferedIOBase]:
    """Read a file as it was before it was packed by gzip, zstd, xz, bzip2, or not at all.

    Args:
        raw: the file, at its start.
        bytes_max: how large it may be, unpacked.

    Raises:
        UnpackError: at any time while the block runs.
    """
    try:
        yield _Bounded(_open(raw), bytes_max)
    except _BROKEN as error:
        raise UnpackError(f"it cannot be unpacked: {error or type(error).__name__}") from error


def _open(raw: io.BufferedIOBase) -> io.BufferedIOBase:
    start = raw.read(6)
    raw.seek(0)
    if start.startswith(b"\x1f\x8b"):
        return gzip.GzipFile(fileobj=raw)
    # The second is a frame that zstd skips, with which some writers begin.
    if start.startswith(b"\x28\xb5\x2f\xfd") or (start[1:4] == b"\x2a\x4d\x18" and start[0] & 0xF0 == 0x50):
        return ZstdFile(raw)
    if start.startswith(b"\xfd7zXZ\x00"):
        return lzma.LZMAFile(cast(IO[bytes], raw))
    return bz2.BZ2File(raw) if start.startswith(b"BZh") else raw


def members(
    file: io.BufferedIOBase, *, ignore_zeros: bool = False
) -> Iterator[tuple[str, int, IO[bytes] | None]]:
    """Go through a tar archive: names, sizes, and of files what reads them, until the next one is taken.

    Args:
        file: from `unpacking`, whose block turns errors into `UnpackError`.
        ignore_zeros: whether archives may follow each other.
    """
    with tarfile.open(
        fileobj=file, mode="r|", bufsize=_PIECE_BYTES, tarinfo=_Member, ignore_zeros=ignore_zeros
    ) as archive:
        count = 0
        while (member := archive.next()) is not None:
            count += 1
            if count > MEMBERS_MAX:
                raise UnpackError(f"it holds more than {MEMBERS_MAX} files")
            # It would remember them all.
            archive.members = []  # type: ignore[attr-defined]
            yield member.name, member.size, archive.extractfile(member) if member.isreg() else None
