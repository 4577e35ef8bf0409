"""Copies images from repository to repository, of one registry or of two, without touching the disk.

The order is what makes it safe to stop anywhere: blobs, then manifests by digest, then the index, and the
name last. What is already there is found by its digest and not sent again, so that a copy which was cut off
goes on where it was. Digests are checked on the way; bytes are never changed.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine, Iterable
from typing import Any
from weakref import WeakValueDictionary

import msgspec

from imagechain.registry.access import ATTEMPTS_MAX, CONNECTIONS_PER_REGISTRY_MAX, Clock, worth_another_try
from imagechain.registry.cache import Cache
from imagechain.registry.errors import AbsentError, DeniedError, NotAnImageError
from imagechain.registry.manifest import Descriptor, Index, IndexEntry, Manifest
from imagechain.registry.repository import Repository
from imagechain.registry.writing import WritableRepository

#: Blobs under way at the same time. Each holds one connection to either side: with half of the connections
#: of a registry, none waits for another where both sides are one registry.
TRANSFERS_MAX = CONNECTIONS_PER_REGISTRY_MAX // 2
#: A blob up to this size is held in memory, and sent in one request.
SMALL_BYTES_MAX = 512 * 1024
#: Pieces of a stream that wait for the slower side.
QUEUE_CHUNKS_MAX = 4
#: Indexes in indexes.
DEPTH_MAX = 3
#: Blobs of which it is remembered where they are.
PLACES_MAX = 200_000
#: Layers that may not be given on: whoever pulls the image gets them elsewhere.
_FOREIGN = (".foreign.", ".nondistributable.")


class Copied(msgspec.Struct):
    """What a copy took."""

    manifests: int = 0
    blobs: int = 0
    blob_bytes: int = 0
    mounted: int = 0


class Copier:
    """Copies images, and remembers which repositories have which blobs."""

    def __init__(self, *, clock: Clock = time.monotonic) -> None:
        self._transfers = asyncio.Semaphore(TRANSFERS_MAX)
        #: By registry and digest: paths of repositories that have a blob.
        self._places: Cache[tuple[str, str], frozenset[str]] = Cache(PLACES_MAX, clock)
        self._locks: WeakValueDictionary[object, asyncio.Lock] = WeakValueDictionary()

    async def copy(
        self, source: Repository, target: WritableRepository, root: Manifest | Index, name: str
    ) -> Copied:
        """Copy an image, all platforms of it, and put it under a name when all of it is there.

        Args:
            source: where it is.
            target: where it goes.
            root: its manifest or index, as it is at the source.
            name: a tag, or the digest of `root`.

        Raises:
            RegistryError: it could not be copied; nothing is under the name that was not there before.
        """
        copied = Copied()
        await self._copy_parts(source, target, root, copied, depth=0)
        await target.put_manifest(name, root.raw, root.descriptor.media_type)
        copied.manifests += 1
        return copied

    async def _copy_parts(
        self,
        source: Repository,
        target: WritableRepository,
        root: Manifest | Index,
        copied: Copied,
        *,
        depth: int,
    ) -> None:
        if isinstance(root, Manifest):
            blobs = {blob.digest: blob for blob in (root.config, *root.layers)}
            await _all(self._copy_blob(source, target, blob, copied) for blob in blobs.values())
            return
        if depth == DEPTH_MAX:
            problem = f"it is an index in more than {DEPTH_MAX} indexes"
            raise NotAnImageError(str(source.endpoint), problem, "name an image")
        entries = {entry.digest: entry for entry in root.entries}
        await _all(
            self._copy_child(source, target, entry, copied, depth=depth + 1) for entry in entries.values()
        )

    async def _copy_child(
        self,
        source: Repository,
        target: WritableRepository,
        entry: IndexEntry,
        copied: Copied,
        *,
        depth: int,
    ) -> None:
        if await target.has_manifest(entry.digest):
            return
        child = await source.manifest(entry.digest)
        await self._copy_parts(source, target, child, copied, depth=depth)
        await target.put_manifest(entry.digest, child.raw, child.descriptor.media_type)
        copied.manifests += 1

    async def _copy_blob(
        self, source: Repository, target: WritableRepository, blob: Descriptor, copied: Copied
    ) -> None:
        if any(mark in blob.media_type for mark in _FOREIGN):
            return
        from imagechain.registry.retrying import retrying  # noqa: PLC0415

        # Images share layers: who comes second waits, and finds it there.
        lock = self._locks.setdefault((target.endpoint, blob.digest), asyncio.Lock())
        async with lock:
            key = (target.endpoint.origin, blob.digest)
            places = self._places.get(key) or frozenset()
            if target.endpoint.path in places:
                return
            if not await target.has_blob(blob.digest):
                if source.endpoint.origin == target.endpoint.origin:
                    places |= {source.endpoint.path}
                again = retrying(ATTEMPTS_MAX)
                await again(worth_another_try, self._transfer, source, target, blob, places, copied)
            self._places.put(key, places | {target.endpoint.path})

    async def _transfer(
        self,
        source: Repository,
        target: WritableRepository,
        blob: Descriptor,
        places: frozenset[str],
        copied: Copied,
    ) -> None:
        async with self._transfers:
            location = await _begin(target, blob.digest, places)
            if location is None:
                copied.mounted += 1
                return
            if blob.size is not None and blob.size <= SMALL_BYTES_MAX:
                await target.upload(location, blob.digest, await source.blob(blob.digest, blob.size))
            else:
                await _stream(source, target, location, blob)
            copied.blobs += 1
            copied.blob_bytes += blob.size or 0


async def _begin(target: WritableRepository, digest: str, places: frozenset[str]) -> str | None:
    """Begin an upload, or mount the blob from another repository of the registry (None)."""
    if places:
        try:
            return await target.begin_upload(digest, min(places))
        except (AbsentError, DeniedError):
            # It is gone there, or this login may not read it: then it has to be sent.
            pass
    return await target.begin_upload()


async def _stream(source: Repository, target: WritableRepository, location: str, blob: Descriptor) -> None:
    """Send a blob on while it comes; the upload sees its end only after its digest was found right."""
    queue: asyncio.Queue[bytes] = asyncio.Queue(QUEUE_CHUNKS_MAX)

    async def read() -> None:
        await source.stream_blob(blob, queue.put)
        await queue.put(b"")

    async def chunks() -> AsyncIterator[bytes]:
        while chunk := await queue.get():
            yield chunk

    await _all([read(), target.upload_stream(location, blob, chunks())])


async def _all(work: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Do all at the same time; the first that fails ends the others, and is what is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for one in work:
                group.create_task(one)
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from failed
