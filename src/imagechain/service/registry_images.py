"""The registries, as the loop asks for them: an adapter of the registry client.

What a digest stands for never changes, and reading it costs pulls, which registries count. So it is kept in
the store: what was read once costs one HEAD for each look, also after a restart.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from imagechain.config import ConfigError
from imagechain.images.builder import INPUTS_LABEL, InputRecord
from imagechain.refs import CONTENT_KEY_VERSION, Platform, ReferenceError, parse_reference
from imagechain.registry import (
    AbsentError,
    Credential,
    DownError,
    RateLimitedError,
    RegistryClient,
    RegistryError,
    RemoteImage,
)
from imagechain.registry.cache import Cache as BoundedCache
from imagechain.service.platforms import join_platforms
from imagechain.service.ports import Cache, ImageAbsent, ImageRead, ImageUnchecked

#: GitLab's registry takes any user name beside a token.
_LOGIN_NAME = "imagechain"
#: Under which the store keeps images: with another key of contents, or another shape, they are read again.
_CACHE_KIND = f"image {CONTENT_KEY_VERSION}.1"
#: Images that are remembered, by the bytes in which the store keeps them.
_REMEMBERED_BYTES_MAX = 64 * 1024 * 1024
_decoder = msgspec.json.Decoder(dict[str, InputRecord])
_kept_decoder = msgspec.msgpack.Decoder(ImageRead)


class GitLabLogins(Mapping[str, Credential]):
    """The login for GitLab's own registry, where no auth file has one: GitLab's token, and for no other host.

    Args:
        host: tells that registry's host, as soon as it is known.
        token: reads the token, which may have been rotated.
    """

    def __init__(self, host: Callable[[], str | None], token: Callable[[], str]) -> None:
        self._host = host
        self._token = token

    def __getitem__(self, host: str) -> Credential:
        if host != self._host():
            raise KeyError(host)
        return Credential(_LOGIN_NAME, self._token())

    def __iter__(self) -> Iterator[str]:
        host = self._host()
        return iter(() if host is None else (host,))

    def __len__(self) -> int:
        return int(self._host() is not None)


class RegistryImages:
    """Reads images for the platforms in use: what they are for others counts for nothing."""

    def __init__(self, client: RegistryClient, platforms: Sequence[Platform], cache: Cache) -> None:
        """Prepare; nothing is asked yet.

        Args:
            client: asks the registries.
            platforms: those in use; the first one counts where an image does not say what it is for.
            cache: where it is kept what digests stand for.
        """
        self._client = client
        self._platforms = tuple(platforms)
        self._cache = cache
        self._remembered: BoundedCache[str, ImageRead] = BoundedCache(_REMEMBERED_BYTES_MAX, time.monotonic)

    async def read(self, reference: str) -> ImageRead | ImageAbsent | ImageUnchecked:
        """Tell what a reference names now; costs one HEAD while its digest stays.

        No error of registries is raised.
        """
        try:
            return await self._read(reference)
        except AbsentError:
            return ImageAbsent()
        except (DownError, RateLimitedError) as error:
            return ImageUnchecked(str(error), error.retry_after_seconds)
        except (RegistryError, ReferenceError) as error:
            return ImageUnchecked(str(error))
        except ConfigError as error:
            # The token's file may be away for a moment, while it is rotated.
            return ImageUnchecked(f"{reference}: {error}")

    async def _read(self, reference: str) -> ImageRead:
        parsed = parse_reference(reference)
        digest = (await self._client.head(parsed)).digest
        key = f"{digest} {','.join(map(str, self._platforms))}"
        image = self._remembered.get(key)
        if image is not None:
            return image
        kept = (await self._cache.cached(_CACHE_KIND, [key])).get(key)
        if kept is None:
            image = describe(digest, await self._client.images(parsed, digest, self._platforms))
            kept = msgspec.msgpack.encode(image)
            await self._cache.cache(_CACHE_KIND, {key: kept})
        else:
            image = _kept_decoder.decode(kept)
        self._remembered.put(key, image, weight=len(kept))
        return image


def describe(digest: str, found: Mapping[Platform, RemoteImage]) -> ImageRead:
    """Tell what a digest is by its images for platforms.

    Args:
        digest: what a tag names.
        found: at least one.
    """
    inputs: dict[str, dict[str, str]] = {}
    labels = {
        str(platform): label
        for platform, image in found.items()
        if (label := read_label(image.labels.get(INPUTS_LABEL))) is not None
    }
    for platform, label in labels.items():
        for name, content in label.items():
            inputs.setdefault(name, {})[platform] = content
    return ImageRead(
        digest=digest,
        content=join_platforms({str(platform): image.content_key for platform, image in found.items()}),
        inputs={name: join_platforms(contents) for name, contents in inputs.items()} if labels else None,
        diff_ids={str(platform): image.diff_ids for platform, image in found.items()},
    )


def read_label(text: str | None) -> dict[str, str] | None:
    """Read what an image says it was built from; None where it says nothing that can be read."""
    if text is None:
        return None
    try:
        records = _decoder.decode(text)
        return {
            parse_reference(name).identity: record.content
            for name, record in records.items()
            if "@" not in name
        }
    except (msgspec.DecodeError, ReferenceError):
        return None
