"""Has an image moved, for this host's platform? One HEAD for each image; a GET only where the tag has moved.

A tag is compared with all digests that podman knows the image by. A moved index is read once: where the
platform's own manifest, or the image in it, is the same as before, nothing has to be restarted, and that is
remembered by the digest.
"""

import asyncio
from collections.abc import Iterable, Mapping

import msgspec

from imagechain.hosts.plan import is_local
from imagechain.hosts.values import Check, Image, Moved, Unchecked, Unmoved
from imagechain.refs import Platform, PlatformError, Reference, parse_platform
from imagechain.registry import AbsentError, Index, Manifest, RegistryClient, RegistryError
from imagechain.registry.manifest import choose_entry
from imagechain.together import together

_REQUESTS_AT_ONCE_MAX = 16


class Found(msgspec.Struct, frozen=True):
    """What came of looking for one image."""

    check: Check
    #: Id of the image that the digest was found to hold; empty: nothing new was found out.
    image_id: str = ""


async def check_all(
    client: RegistryClient,
    references: Mapping[str, Reference],
    running: Mapping[str, Iterable[Image]],
    local: Mapping[str, Image],
    holds: Mapping[str, str],
) -> dict[str, Found]:
    """Look for something newer than what runs.

    Args:
        client: the way to the registries.
        references: what is followed.
        running: by reference: the images that containers made from it run.
        local: the images of this host's store, by their names.
        holds: ids of images by digests, as far as they are remembered.
    """
    turn = asyncio.Semaphore(_REQUESTS_AT_ONCE_MAX)

    async def check(text: str, reference: Reference) -> Found:
        if is_local(reference):
            return Found(_check_local(text, local))
        async with turn:
            try:
                return await _check(client, reference, tuple(running[text]), holds)
            except AbsentError as error:
                return Found(Unchecked(f"the registry has it no more: {error}"))
            except RegistryError as error:
                return Found(Unchecked(str(error)))

    found = await together(*(check(text, reference) for text, reference in references.items()))
    return dict(zip(references, found, strict=True))


def _check_local(text: str, local: Mapping[str, Image]) -> Check:
    image = local.get(text)
    if image is None:
        return Unchecked("there is no image of this name in the store of this host any more")
    return Moved(digest=image.digest or image.id, platform_digest="", image_id=image.id)


async def _check(
    client: RegistryClient, reference: Reference, images: tuple[Image, ...], holds: Mapping[str, str]
) -> Found:
    platforms = {_platform(image) for image in images}
    if len(platforms) != 1:
        told = ", ".join(map(str, sorted(platforms))) or "none that is in the store"
        return Found(Unchecked(f"containers run it for several platforms ({told}); use one name for each"))
    digest = (await client.head(reference)).digest
    if all(digest in image.digests for image in images):
        return Found(Unmoved(digest))
    if digest in holds and {image.id for image in images} == {holds[digest]}:
        return Found(Unmoved(digest))
    pinned = msgspec.structs.replace(reference, tag=None, digest=digest)
    manifest = await client.manifest(pinned)
    platform_digest = digest
    if isinstance(manifest, Index):
        platform = platforms.pop()
        entry = choose_entry(manifest.entries, platform)
        if entry is None:
            return Found(Unchecked(f"{digest} has no image for {platform} any more"))
        platform_digest = entry.digest
        if all(platform_digest in image.digests for image in images):
            return Found(Unmoved(digest), images[0].id)
        manifest = await client.manifest(msgspec.structs.replace(pinned, digest=platform_digest))
    if not isinstance(manifest, Manifest) or not manifest.is_image:
        return Found(Unchecked(f"{platform_digest} is no container image"))
    image_id = manifest.config.digest.partition(":")[2]
    return Found(Moved(digest, platform_digest, image_id), image_id)


def _platform(image: Image) -> Platform:
    """The platform of what runs, which need not be that of the host."""
    text = "/".join(filter(None, (image.os or "linux", image.architecture, image.variant)))
    try:
        return parse_platform(text)
    except PlatformError:
        return Platform("linux", image.architecture, image.variant)
