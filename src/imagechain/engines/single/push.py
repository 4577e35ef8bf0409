"""Push one image: to the job's own registry by the builder, from there as it is to all others.

A builder compresses layers anew for a registry that lacks them, so that one image would have another digest
in each registry, and none could be promoted everywhere. The build key is written last: it never names an
image that is not everywhere.
"""

from collections.abc import Sequence
from pathlib import Path

from imagechain.images import Builder
from imagechain.images.everywhere import put_everywhere
from imagechain.registry import Index, Manifest, WritableRepository
from imagechain.registry.copying import Copier


async def push_image(
    builder: Builder,
    image_id: str,
    repositories: Sequence[WritableRepository],
    *,
    tags: Sequence[str],
    key: str,
    work: Path,
) -> tuple[str, tuple[str, ...]]:
    """Push an image of the local store under tags.

    Args:
        builder: Whose store it is in.
        image_id: Of the image.
        repositories: Where it goes, the first by the builder.
        tags: Its names.
        key: The tag of its build key; empty: none.
        work: An own folder.

    Returns:
        Its digest, and the references that it was pushed as.

    Raises:
        BuilderError: the first registry did not take it.
        NotEverywhereError: another one did not.
    """
    first = repositories[0]
    digest = await builder.push(image_id, f"{first.endpoint}:{tags[0]}", work)
    pushed = await _put(repositories, await first.manifest(digest), tags, key)
    return digest, pushed


async def put_built(
    repositories: Sequence[WritableRepository], digest: str, tags: Sequence[str], key: str
) -> tuple[str, ...]:
    """Give an image that the first registry has its tags, in all of them; return the references.

    Raises:
        RegistryError: it cannot be read.
        NotEverywhereError: a registry did not take it.
    """
    own_key = key if len(repositories) > 1 else ""
    return await _put(repositories, await repositories[0].manifest(digest), tags, own_key)


async def _put(
    repositories: Sequence[WritableRepository], manifest: Manifest | Index, tags: Sequence[str], key: str
) -> tuple[str, ...]:
    first, *others = repositories
    copier = Copier()
    for other in others:
        await copier.copy(first, other, manifest, manifest.descriptor.digest)
    names = (*tags, key) if key else tuple(tags)
    await put_everywhere(repositories, names, manifest)
    return tuple(f"{repository.endpoint}:{tag}" for repository in repositories for tag in tags)
