"""Previous images, which keep a name of their own, so that the nightly `podman image prune` leaves them."""

import re
from collections.abc import Collection
from datetime import UTC, datetime

from imagechain.hosts.podman import Podman
from imagechain.hosts.values import KEPT_REPOSITORY

#: A tag has at most 128 characters; the time takes 17 of them.
_NAME_CHARACTERS_MAX = 110
_TAG = re.compile(r"(?P<name>.+)-(?P<time>\d{8}T\d{6}Z)")


async def keep_image(podman: Podman, image: str, container: str, at: float) -> None:
    """Name a previous image of a container.

    Args:
        podman: whose store.
        image: its id.
        container: the container's name.
        at: when it was replaced, as Unix time: the same time gives the same name.
    """
    written = datetime.fromtimestamp(at, UTC).strftime("%Y%m%dT%H%M%SZ")
    if await podman.images([image]):
        await podman.tag(image, f"{KEPT_REPOSITORY}:{container[:_NAME_CHARACTERS_MAX]}-{written}")


async def drop_forgotten(podman: Podman, containers: Collection[str]) -> None:
    """Give up the previous images of containers that are not there any more."""
    names = {container[:_NAME_CHARACTERS_MAX] for container in containers}
    for reference in await podman.kept(KEPT_REPOSITORY):
        match = _TAG.fullmatch(reference.rpartition(":")[2])
        if match is not None and match["name"] not in names:
            await podman.untag(reference)


async def drop_images(podman: Podman, container: str, count: int) -> None:
    """Give up all but the newest previous images of a container."""
    name = container[:_NAME_CHARACTERS_MAX]
    matches = [_TAG.fullmatch(text.rpartition(":")[2]) for text in await podman.kept(KEPT_REPOSITORY)]
    times = {match["time"] for match in matches if match is not None and match["name"] == name}
    for time in sorted(times, reverse=True)[count:]:
        await podman.untag(f"{KEPT_REPOSITORY}:{name}-{time}")
