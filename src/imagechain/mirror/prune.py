"""Removes from targets what nobody mirrors any more: planned first, then done by the name of the plan.

Three locks: the table has to allow it (`prune = true`), a dry run has to have shown exactly these tags (its
plan has a name, made of what it removes), and every host has to be known, since what one runs stays. Only
tags are removed, never manifests: a digest may have other names.
"""

import hashlib
import re
from collections.abc import Collection, Sequence

import msgspec

from imagechain.config import MirrorSettings
from imagechain.mirror.plan import tag_before
from imagechain.mirror.sync import Syncer
from imagechain.refs import parse_reference
from imagechain.registry import AbsentError, Index, RegistryClient, RegistryError, WritableRepository

_PLAN_CHARACTERS = 12
#: Digests and image ids, wherever a host's status has them.
_HEXADECIMAL = re.compile(r"(?<![0-9a-f])[0-9a-f]{64}(?![0-9a-f])")
#: Lists of what refers to a digest, and cosign's signatures: they go with what they are about.
_ABOUT_A_DIGEST = re.compile(r"sha256-[0-9a-f]{64}(?:\..*)?")


class Removal(msgspec.Struct, frozen=True, kw_only=True):
    """A tag of a target that nobody mirrors any more."""

    target: str
    tag: str
    digest: str
    #: `kept`: a host runs it. `failed`: it could not be removed.
    outcome: str = "to remove"
    message: str = ""


def digests_in(status: str) -> frozenset[str]:
    """Find every digest and image id in what `hosts status --format json` printed, without its algorithm."""
    return frozenset(_HEXADECIMAL.findall(status))


def surplus(
    tags: Collection[str], selected: Collection[str], keep_previous: int, *, all_gone_is_strange: bool = True
) -> tuple[str, ...]:
    """Choose the tags of a target that nobody mirrors any more, sorted. Pure.

    Args:
        tags: of the target.
        selected: tags that are mirrored.
        keep_previous: dated tags that are kept of each tag, the newest.
        all_gone_is_strange: nothing is chosen where nothing is selected: a source that lists no tags has
            trouble rather than no tags.
    """
    if all_gone_is_strange and not selected:
        return ()
    dated: dict[str, list[str]] = {}
    gone = []
    for tag in tags:
        before = tag_before(tag)
        if tag in selected or _ABOUT_A_DIGEST.fullmatch(tag):
            continue
        if before is None:
            gone.append(tag)
        else:
            dated.setdefault(before, []).append(tag)
    for each in dated.values():
        gone += sorted(each, reverse=True)[keep_previous:]
    return tuple(sorted(gone))


async def plan_removals(
    client: RegistryClient, syncer: Syncer, mirrors: Sequence[MirrorSettings], in_use: Collection[str]
) -> list[Removal]:
    """Find what would be removed, and what a host still runs.

    Raises:
        RegistryError: a source or target could not be asked: then nothing is known to be surplus.
    """
    removals = []
    for mirror in mirrors:
        if not mirror.prune:
            continue
        target = client.direct(parse_reference(mirror.target))
        try:
            tags = await target.tags()
        except AbsentError:
            continue
        for tag in surplus(tags, await syncer.selected(mirror), mirror.keep_previous):
            digest, digests = await _digests(target, tag)
            removal = Removal(target=str(target.endpoint), tag=tag, digest=digest)
            if digests & set(in_use):
                removal = msgspec.structs.replace(removal, outcome="kept", message="a host runs it")
            removals.append(removal)
    return removals


def name_of_plan(removals: Sequence[Removal]) -> str:
    """Name a plan by what it removes: another tag or digest makes another name."""
    lines = sorted(
        f"{each.target}:{each.tag}@{each.digest}" for each in removals if each.outcome == "to remove"
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:_PLAN_CHARACTERS]


async def carry_out(client: RegistryClient, removals: Sequence[Removal]) -> list[Removal]:
    """Remove the tags of a plan; give what became of each."""
    done = []
    for removal in removals:
        if removal.outcome != "to remove":
            done.append(removal)
            continue
        try:
            await client.direct(parse_reference(removal.target)).delete(removal.tag)
        except RegistryError as error:
            done.append(msgspec.structs.replace(removal, outcome="failed", message=str(error)))
        else:
            done.append(msgspec.structs.replace(removal, outcome="removed"))
    return done


async def _digests(target: WritableRepository, tag: str) -> tuple[str, set[str]]:
    """Give what a tag names, and all that a host may call it by: index, platform manifests, image ids."""
    root = await target.manifest(tag)
    parts = [root]
    if isinstance(root, Index):
        parts += [await target.manifest(entry.digest) for entry in root.entries]
    names = {part.descriptor.digest for part in parts}
    names |= {part.config.digest for part in parts if not isinstance(part, Index)}
    return root.descriptor.digest, {name.partition(":")[2] for name in names}
