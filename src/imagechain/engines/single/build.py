"""Build one image: look up what it is built from, build it unless that was done before, push it.

Every image that the build reads is asked of its registry once, by HEAD, and pulled by digest: so the result
does not depend on what this machine happens to have, and a laptop makes the same image as a CI job.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec

from imagechain.discovery.one import OneImage
from imagechain.discovery.reading import Located
from imagechain.engines.single.push import push_image, put_built
from imagechain.images import (
    Builder,
    BuilderError,
    BuildOptions,
    GitFacts,
    ImageFacts,
    Ingredients,
    InputRecord,
    Parent,
    Recipe,
    make_image,
    read_git,
    read_recipe,
)
from imagechain.images.build_key import key_tag
from imagechain.images.checkout import copy_context, needs_copy, tracked_modes
from imagechain.refs import Platform, Reference, parse_platform, parse_reference
from imagechain.registry import AbsentError, RegistryClient, WritableRepository
from imagechain.together import together

#: Kinds of dependencies whose image the builder reads.
_READ_KINDS = frozenset({"from", "copy-from", "mount-from"})
#: No registry has images of this one.
_LOCAL = "localhost"


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be built."""

    #: The top folder of the repository.
    top: Path
    image: OneImage
    platform: Platform
    options: BuildOptions
    #: By normalised reference as written: what is read instead.
    instead: Mapping[str, str]
    #: Names that the image gets on this machine.
    names: tuple[str, ...]
    #: Tags that it is pushed under; none: it is not pushed.
    tags: tuple[str, ...]
    #: Build it, even if it was built before.
    rebuild: bool


class BuiltImage(msgspec.Struct, frozen=True, kw_only=True):
    """An image that was built now, or before."""

    names: tuple[str, ...]
    #: Id in the local store; empty where it was not built now.
    id: str = ""
    #: Digest of its manifest; empty where it was not pushed.
    digest: str = ""
    #: Where it was pushed.
    pushed: tuple[str, ...] = ()
    #: Whether the registry had it already.
    reused: bool = False
    #: What it was built from: digest by reference.
    inputs: Mapping[str, str] = {}


class Checkout(msgspec.Struct, frozen=True):
    """What git says of what is built; nothing outside of git."""

    #: Permissions of the files of the context, by path.
    modes: Mapping[str, int]
    git: GitFacts | None


class _Seen(msgspec.Struct, frozen=True, kw_only=True):
    """An image that the build reads, as its registry has it now."""

    reference: str
    used: Reference
    #: None: no registry has it.
    digest: str | None

    @property
    def pinned(self) -> Reference:
        """The reference by which it is fetched."""
        return msgspec.structs.replace(self.used, tag=None, digest=self.digest) if self.digest else self.used


async def read_checkout(order: Order) -> Checkout:
    """Ask git about what is to be built."""
    modes, git = await together(
        tracked_modes(order.top / order.image.context), read_git(order.top / order.image.file)
    )
    return Checkout(modes, git)


async def build_one(
    order: Order,
    checkout: Checkout,
    builder: Builder,
    client: RegistryClient,
    repositories: Sequence[WritableRepository],
    *,
    work: Path,
    say: Callable[[str], None],
    write_log: Callable[[bytes], None],
) -> BuiltImage:
    """Build one image, unless the registry has it, and push it.

    Args:
        order: What is to be built.
        checkout: What git says of it.
        builder: Who builds.
        client: Asks registries what the image is built from.
        repositories: Where it is pushed, the first of which tells whether it was built before.
        work: An own empty folder.
        say: Takes lines for people.
        write_log: Takes the builder's output.

    Raises:
        BuilderError: it could not be built; the message says why.
        RecipeError: a file cannot be read.
        RegistryError: a registry did not answer.
        NotEverywhereError: a registry did not take it.
    """
    image = order.image
    read = [one for one in image.dependencies if _is_read(one)]
    git, modes = checkout.git, checkout.modes
    seen = {one.reference: one for one in await _look_up(order, read, client)}
    recipe = await asyncio.to_thread(_recipe, order, image.context_sources, modes)
    digests = {name: one.digest for name, one in seen.items() if one.digest}
    key = ""
    if order.tags and len(digests) == len(seen):
        key = key_tag(
            recipe=recipe.hash,
            parents=digests,
            platform=order.platform,
            options=order.options,
            version=git.version if git is not None and git.is_tagged else "",
        )
        if not order.rebuild and (digest := await _built_before(repositories[0], key)):
            say(f"the registry has what this would build ({key}): nothing is built")
            pushed = await put_built(repositories, digest, order.tags, key)
            return BuiltImage(names=(), digest=digest, pushed=pushed, reused=True, inputs=digests)
    parents = await _fetch(order, read, seen, builder)
    if any(parent.is_base and parent.facts.on_build for parent in parents):
        # Triggers of a base copy what they like, which no key from before the build knows.
        key, recipe = "", await asyncio.to_thread(_recipe, order, None, modes)
    ingredients = Ingredients(
        text=image.text,
        context=await asyncio.to_thread(_context, order, recipe, modes, work),
        ignore_file=recipe.ignore_file,
        build_args=image.build_args,
        parents=parents,
        records={parent.reference: _record(parent) for parent in parents},
        recipe=recipe.hash,
        git=git,
    )
    facts = await make_image(
        builder, ingredients, names=order.names, work=work, write_log=write_log, options=order.options
    )
    built = BuiltImage(names=order.names, id=facts.id, inputs=digests)
    if not order.tags:
        return built
    digest, pushed = await push_image(builder, facts.id, repositories, tags=order.tags, key=key, work=work)
    return msgspec.structs.replace(built, digest=digest, pushed=pushed)


def _is_read(one: Located) -> bool:
    found = one.dependency
    return found.needed and found.image is not None and found.kind in _READ_KINDS


async def _look_up(order: Order, read: Sequence[Located], client: RegistryClient) -> Sequence[_Seen]:
    """Ask registries what the images are now that a build reads."""

    async def one(reference: str) -> _Seen:
        used = parse_reference(order.instead.get(reference, reference))
        digest = None if used.domain == _LOCAL else (await client.head(used)).digest
        return _Seen(reference=reference, used=used, digest=digest)

    references = dict.fromkeys(str(located.dependency.image) for located in read)
    return await together(*map(one, references))


def _recipe(order: Order, sources: tuple[str, ...] | None, modes: Mapping[str, int]) -> Recipe:
    return read_recipe(
        text=order.image.text,
        build_args=order.image.build_args,
        context=order.top / order.image.context,
        containerfile=order.top / order.image.file,
        sources=sources,
        tracked=modes,
    )


def _context(order: Order, recipe: Recipe, modes: Mapping[str, int], work: Path) -> Path:
    """Give the context as git has it: itself, or a copy where the checkout has other permissions."""
    context, copy = order.top / order.image.context, work / "context"
    try:
        if not needs_copy(context, recipe.files, modes):
            return context
        copy_context(context, copy, recipe.files, modes)
    except OSError as error:
        raise BuilderError(f"the context cannot be copied to {work}: {error}; free some space") from error
    return copy


async def _built_before(repository: WritableRepository, key: str) -> str | None:
    """Look for an image that was built from the same; this is the one request that saves a build."""
    try:
        return (await repository.head(key)).digest
    except AbsentError:
        return None


async def _fetch(
    order: Order, read: Sequence[Located], seen: Mapping[str, _Seen], builder: Builder
) -> tuple[Parent, ...]:
    """Bring the images that a build reads into the local store."""
    facts: dict[tuple[str, Platform], ImageFacts] = {}
    parents = []
    for located in read:
        one = seen[str(located.dependency.image)]
        written = located.dependency.platform
        platform = parse_platform(written) if written else order.platform
        found = facts.get((one.reference, platform))
        if found is None:
            if any(reference == one.reference for reference, _ in facts):
                raise BuilderError(
                    f"{located.file}:{located.line}: {one.reference} is needed for two platforms, which "
                    "builders cannot be told apart; give one of them another tag"
                )
            found = facts[one.reference, platform] = await _bring(one, located, platform, builder)
        if not written and located.dependency.kind == "from":
            _check_architecture(one, located, found.architecture, platform)
        parents.append(
            Parent(
                reference=one.reference,
                is_base=located.dependency.kind == "from",
                line=located.dependency.line,
                image_id=found.id,
                digest=one.digest,
                facts=found,
            )
        )
    return tuple(parents)


def _check_architecture(one: _Seen, located: Located, architecture: str, platform: Platform) -> None:
    """Refuse a base for another architecture: the image would claim to be what it is not."""
    if architecture not in {"", platform.architecture}:
        raise BuilderError(
            f"{located.file}:{located.line}: {one.used} is for {architecture} only, and the build is for "
            f"{platform}; build it for {platform.architecture}, too, or write FROM --platform=linux/"
            f"{architecture} if that one is meant"
        )


async def _bring(one: _Seen, located: Located, platform: Platform, builder: Builder) -> ImageFacts:
    if one.digest is not None:
        return await builder.read_image(await builder.pull(str(one.pinned), platform))
    try:
        return await builder.read_image(str(one.used))
    except BuilderError as error:
        raise BuilderError(
            f"{located.file}:{located.line}: there is no image {one.used} on this machine; build it first, "
            f"with that name ({error})"
        ) from error


def _record(parent: Parent) -> InputRecord:
    return InputRecord(parent.digest or f"sha256:{parent.image_id}", parent.facts.content)
