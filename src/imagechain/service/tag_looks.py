"""Keeps what the service's looks at tags of others saw, in the history that `imagechain vet` reads.

A registry cannot be asked for its past, and nobody looks as often as the service does. What comes from
GitLab's own registry is left out: that is nobody else's.
"""

import asyncio
import time
from collections.abc import Callable

import structlog

from imagechain.refs import parse_reference
from imagechain.registry.cache import Cache
from imagechain.service.ports import ImageAbsent, ImageRead, Images, ImageUnchecked
from imagechain.vetting.history import look_at_tag
from imagechain.vetting.record import AGAIN_SECONDS, HistoryError, HistoryFile

#: Tags of which it is remembered what was written of them.
_TAGS_MAX = 100_000
_log = structlog.get_logger()


class TagLooks:
    """Reads images, and writes down what tags of others name: when it moved, and once a day."""

    def __init__(
        self,
        images: Images,
        file: HistoryFile,
        own_registry: Callable[[], str | None],
        now: Callable[[], float],
    ) -> None:
        """Prepare.

        Args:
            images: reads the images.
            file: the history.
            own_registry: the host of GitLab's own registry, as soon as it is known.
            now: Unix time.
        """
        self._images = images
        self._file = file
        self._own_registry = own_registry
        self._now = now
        #: Digests by reference, for as long as they need not be written again.
        self._written: Cache[str, str] = Cache(_TAGS_MAX, time.monotonic)
        self._complaint = ""

    async def read(self, reference: str) -> ImageRead | ImageAbsent | ImageUnchecked:
        """Tell what a reference names now; what is seen of a tag is kept, as far as the disk takes it."""
        found = await self._images.read(reference)
        if isinstance(found, ImageRead) and self._written.get(reference) != found.digest:
            await self._write(reference, found.digest)
        return found

    async def _write(self, reference: str, digest: str) -> None:
        parsed = parse_reference(reference)
        if parsed.digest is None and parsed.domain != self._own_registry():
            looks = look_at_tag(str(parsed), digest, self._now())
            try:
                await asyncio.to_thread(self._file.add, looks)
            except HistoryError as error:
                if str(error) != self._complaint:
                    _log.warning("the history of tags cannot be kept", why=str(error))
                self._complaint = str(error)
                return
        self._written.put(reference, digest, seconds=AGAIN_SECONDS)
