"""Reads the indexes of package archives: which versions there are now.

They are read as apt and apk read them, but signatures are not checked: who forges an index can hide an update
from this comparison, and install nothing.
"""

import asyncio
import bz2
import gzip
import io
import lzma
import tarfile
import zlib
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

import httpx2

from imagechain._version import __version__
from imagechain.vetting.packages import Index, Package, read_apk, read_debian_index
from imagechain.vetting.sources import INDEXES_MAX, IndexAddress

INDEX_BYTES_MAX = 64 * 1024 * 1024
#: Unpacked; Debian's main has 50 MB.
INDEX_TEXT_BYTES_MAX = 512 * 1024 * 1024
_SECONDS_MAX = 60.0
_PARALLEL_MAX = 4


class ArchiveError(Exception):
    """An index could not be read; the message says which, and why."""


class Archive:
    """Fetches indexes, each once. An asynchronous context manager."""

    def __init__(
        self, mirrors: Mapping[str, str], transport: httpx2.AsyncBaseTransport | None = None
    ) -> None:
        """Prepare.

        Args:
            mirrors: beginnings of addresses, and what is asked instead.
            transport: instead of the network, for tests.
        """
        self._mirrors = mirrors
        self._client = httpx2.AsyncClient(
            transport=transport,
            timeout=_SECONDS_MAX,
            follow_redirects=True,
            headers={"User-Agent": f"imagechain/{__version__}"},
        )
        self._slots = asyncio.Semaphore(_PARALLEL_MAX)
        self._read: dict[tuple[str, bool], asyncio.Task[tuple[Package, ...]]] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._read.values():
            task.cancel()
        await asyncio.gather(*self._read.values(), return_exceptions=True)
        await self._client.aclose()

    async def indexes(self, addresses: Sequence[IndexAddress], *, is_alpine: bool) -> list[Index]:
        """Read indexes.

        Raises:
            ArchiveError: one of them cannot be had, or is not what it should be; nothing is known then.
        """
        if len(addresses) > INDEXES_MAX:
            raise ArchiveError(
                f"the image names {len(addresses)} indexes; {INDEXES_MAX} are the most that are read"
            )
        packages = await asyncio.gather(*(self._once(address.url, is_alpine) for address in addresses))
        return [
            Index(packages=found, is_security=address.is_security)
            for address, found in zip(addresses, packages, strict=True)
        ]

    async def _once(self, url: str, is_alpine: bool) -> tuple[Package, ...]:
        key = (url, is_alpine)
        if key not in self._read:
            self._read[key] = asyncio.create_task(self._fetch(url, is_alpine))
        return await asyncio.shield(self._read[key])

    async def _fetch(self, url: str, is_alpine: bool) -> tuple[Package, ...]:
        endings = (".tar.gz",) if is_alpine else (".xz", ".gz", ".bz2")
        mirrored = next(
            (there + url.removeprefix(here) for here, there in self._mirrors.items() if url.startswith(here)),
            url,
        )
        async with self._slots:
            for ending in endings:
                data = await self._get(mirrored + ending)
                if data is not None:
                    return await asyncio.to_thread(_decode, data, ending, mirrored + ending)
        raise ArchiveError(f"{mirrored} is not there, with any of the endings {', '.join(endings)}")

    async def _get(self, url: str) -> bytes | None:
        """Fetch a file; None where there is none."""
        body = bytearray()
        try:
            async with asyncio.timeout(_SECONDS_MAX), self._client.stream("GET", url) as response:
                if response.status_code in {403, 404, 410}:
                    return None
                if response.status_code != 200:
                    raise ArchiveError(
                        f"{url} answers with the status {response.status_code}; try again later"
                    )
                async for chunk in response.aiter_raw():
                    body += chunk
                    if len(body) > INDEX_BYTES_MAX:
                        raise ArchiveError(f"{url} is larger than {INDEX_BYTES_MAX} bytes: is it an index?")
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError, TimeoutError) as error:
            said = str(error) or type(error).__name__
            raise ArchiveError(f"{url} could not be read: {said}; name a mirror in vet.archives") from error
        return bytes(body)


def _decode(data: bytes, ending: str, url: str) -> tuple[Package, ...]:
    try:
        if ending == ".tar.gz":
            return tuple(read_apk(_apk_index(data)))
        with _open(data, ending) as file:
            text = file.read(INDEX_TEXT_BYTES_MAX + 1)
    except (OSError, EOFError, lzma.LZMAError, zlib.error, tarfile.TarError) as error:
        raise ArchiveError(f"{url} is broken: {error}") from error
    if len(text) > INDEX_TEXT_BYTES_MAX:
        raise ArchiveError(f"{url} unpacks to more than {INDEX_TEXT_BYTES_MAX} bytes")
    return tuple(read_debian_index(text.decode(errors="replace")))


def _open(data: bytes, ending: str) -> io.BufferedIOBase:
    raw = io.BytesIO(data)
    if ending == ".xz":
        return lzma.LZMAFile(raw)
    return gzip.GzipFile(fileobj=raw) if ending == ".gz" else bz2.BZ2File(raw)


def _apk_index(data: bytes) -> str:
    """Take the index out of a signed archive: two gzip streams, each a tar archive cut short."""
    with tarfile.open(
        fileobj=gzip.GzipFile(fileobj=io.BytesIO(data)), mode="r|", ignore_zeros=True
    ) as archive:
        for member in archive:
            if member.name == "APKINDEX" and member.size <= INDEX_TEXT_BYTES_MAX:
                file = archive.extractfile(member)
                return file.read().decode(errors="replace") if file is not None else ""
    raise tarfile.TarError("it holds no APKINDEX")
