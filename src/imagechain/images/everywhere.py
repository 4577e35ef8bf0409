"""Puts one manifest under names in several registries: in all of them, or in none.

No registry knows transactions, so this is what can be had: everything is read before anything is written;
what was written is put back when a later registry refuses; and what cannot be put back is named. The first
registry, where others look, is written last, and its last name is the only one that never has to be put
back.
"""

import asyncio
from collections.abc import Sequence
from typing import Literal

import msgspec

from imagechain.registry import (
    AbsentError,
    Index,
    Manifest,
    RegistryError,
    ServerFailedError,
    UnreachableError,
    WritableRepository,
)
from imagechain.together import together


class Written(msgspec.Struct, frozen=True):
    """A name that a manifest was put under."""

    #: The repository with its registry.
    image: str
    tag: str
    digest: str
    #: `kept`: it named this digest before. Of the name that is written last this is not known.
    outcome: Literal["written", "kept", "planned"]


class NotEverywhereError(Exception):
    """A registry refused; the message says which, why, and what is where now."""


class _Before(msgspec.Struct, frozen=True):
    """What a name was before."""

    repository: WritableRepository
    tag: str
    manifest: Manifest | Index | None
    #: Whether that was asked at all.
    is_known: bool = True


async def put_everywhere(
    repositories: Sequence[WritableRepository], tags: Sequence[str], manifest: Manifest | Index
) -> tuple[Written, ...]:
    """Put a manifest under names; two requests for each registry and name, but one for the very last.

    Args:
        repositories: where; the first one is written last.
        tags: the names, in the order in which they are written.
        manifest: all that it names is in all of the repositories.

    Raises:
        NotEverywhereError: a registry refused, or could not be asked.
    """
    first, *others = repositories
    *names, last = ((one, tag) for one in (*others, first) for tag in tags)
    try:
        before = await together(*(_before(one, tag) for one, tag in names))
    except RegistryError as error:
        raise NotEverywhereError(f"{error}. Nothing was changed") from error
    steps = [*before, _Before(*last, None, is_known=False)]
    written: list[_Before] = []
    for step in steps:
        try:
            await step.repository.put_manifest(step.tag, manifest.raw, manifest.descriptor.media_type)
        except RegistryError as error:
            match await _was_written(step, manifest.descriptor.digest, error):
                case False:
                    raise NotEverywhereError(f"{error}. {await _put_back(written)}") from error
                case None:
                    raise NotEverywhereError(f"{error}. {await _put_back([*written, step])}") from error
                case True:
                    # It was written, and only the answer was lost.
                    pass
        except asyncio.CancelledError:
            await _put_back(written)
            raise
        written.append(step)
    return tuple(_told(step, manifest.descriptor.digest) for step in steps)


async def _before(repository: WritableRepository, tag: str) -> _Before:
    try:
        return _Before(repository, tag, await repository.manifest(tag))
    except AbsentError:
        return _Before(repository, tag, None)


async def _was_written(step: _Before, digest: str, error: RegistryError) -> bool | None:
    """Look whether a name was written all the same, after an error; None: that cannot be known now."""
    if not isinstance(error, (ServerFailedError, UnreachableError)):
        return False
    try:
        return (await step.repository.head(step.tag)).digest == digest
    except AbsentError:
        return False
    except RegistryError:
        return None


async def _put_back(written: Sequence[_Before]) -> str:
    """Give names back what they named; say how far that went."""
    left = []
    for step in reversed(written):
        name = f"{step.repository.endpoint}:{step.tag}"
        try:
            if not step.is_known:
                left.append(f"whether {name} was written cannot be known now")
            elif step.manifest is None:
                await step.repository.delete(step.tag)
            else:
                descriptor = step.manifest.descriptor
                await step.repository.put_manifest(step.tag, step.manifest.raw, descriptor.media_type)
        except RegistryError as error:
            before = step.manifest.descriptor.digest if step.manifest is not None else "nothing"
            left.append(f"{name} should name {before} again ({error})")
    if left:
        return f"It could not be undone everywhere: {'; '.join(left)}"
    return "Nothing is changed: what was written before was put back" if written else "Nothing was changed"


def _told(step: _Before, digest: str) -> Written:
    is_kept = step.manifest is not None and step.manifest.descriptor.digest == digest
    return Written(str(step.repository.endpoint), step.tag, digest, "kept" if is_kept else "written")
