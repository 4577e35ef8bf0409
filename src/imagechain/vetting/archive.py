"""Reads the indexes of package archives: which versions there are now.

They are read as apt and apk read them, but signatures are not checked: who forges an index can hide an update
from this comparison, and install nothing.
"""

import asyncio
import io
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

import httpx2

from imagechain._version import __version__
from imagechain.together import together
from imagechain.vetting.packages import Index, Package, read_apk, read_debian_index
from imagechain.vetting.sources import INDEXES_MAX, IndexAddress
from imagechain.vetting.unpack import UnpackError, members, unpacking

INDEX_BYTES_MAX = 64 * 1024 * 1024
#: Unpacked; Debian's main has 50 MB.
INDEX_UNPACKED_BYTES_MAX = 256 * 1024 * 1024
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
            # Indexes are packed files: what a server packs besides would have to be unpacked twice.
            headers={"User-Agent": f"imagechain/{__version__}", "Accept-Encoding": "identity"},
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
        packages = await together(*(self._once(address.url, is_alpine) for address in addresses))
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
                    return await asyncio.to_thread(_decode, data, mirrored + ending, is_alpine)
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


def _decode(data: bytes, url: str, is_alpine: bool) -> tuple[Package, ...]:
    try:
        with unpacking(io.BytesIO(data), INDEX_UNPACKED_BYTES_MAX) as file:
            text = (_apk_index(file) if is_alpine else file.read()).decode(errors="replace")
    except UnpackError as error:
        raise ArchiveError(f"{url} is broken: {error}") from error
    packages = tuple((read_apk if is_alpine else read_debian_index)(text))
    # An index may be empty; what is something else must not pass for one.
    if text.strip() and not packages:
        raise ArchiveError(f"{url} is no index of packages; is it a page of a proxy?")
    return packages


def _apk_index(file: io.BufferedIOBase) -> bytes:
    """Take the index out of what `apk index` and `abuild-sign` wrote.

    That is a gzip file with the signature, and one with the index. The first holds a tar archive without an
    end, so that the second goes on with it; who signed with another tool may have left an end there. All is
    read, since what tells that a file is whole stands at its end.
    """
    found = [
        index.read()
        for name, _, index in members(file, ignore_zeros=True)
        if name == "APKINDEX" and index is not None
    ]
    if not found:
        raise UnpackError("it holds no APKINDEX")
    return found[0]
