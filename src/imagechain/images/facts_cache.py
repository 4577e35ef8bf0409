"""Facts of images, kept between runs so that a run which finds nothing to do asks the builder once.

An image id is the hash of the image's config, so an entry is never stale. The file is only a saving: it may
be deleted at any time, two processes may write it (the later wins, the other's entries are read again), and
where it cannot be written there is none.
"""

import contextlib
import os
from pathlib import Path

import msgspec

from imagechain.images.builder import ImageFacts

#: Images kept; the least recently used go first.
IMAGES_MAX = 8192
FILE_BYTES_MAX = 64 * 1024 * 1024
_decoder = msgspec.json.Decoder(dict[str, ImageFacts])


class FactsCache:
    """Facts by image id."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._changed = False
        self._facts: dict[str, ImageFacts] = {}
        with contextlib.suppress(OSError, msgspec.DecodeError):
            if file.stat().st_size <= FILE_BYTES_MAX:
                self._facts = _decoder.decode(file.read_bytes())

    def get(self, image_id: str) -> ImageFacts | None:
        """Look an image up; this keeps it among the recently used."""
        facts = self._facts.pop(image_id, None)
        if facts is not None:
            self._facts[image_id] = facts
        return facts

    def put(self, facts: ImageFacts) -> None:
        """Remember an image."""
        self._facts[facts.id] = facts
        self._changed = True

    def save(self) -> None:
        """Write what was learnt, if anything was; the file is replaced at once or not at all."""
        if not self._changed:
            return
        kept = dict(list(self._facts.items())[-IMAGES_MAX:])
        scratch = self._file.with_name(f"{self._file.name}.{os.getpid()}")
        try:
            scratch.parent.mkdir(parents=True, exist_ok=True)
            scratch.write_bytes(msgspec.json.encode(kept))
            scratch.replace(self._file)
            self._changed = False
        except OSError:
            with contextlib.suppress(OSError):
                scratch.unlink()
