"""Looks at every selected tag by HEAD on both sides, and copies those that moved.

What could not be looked at is `unknown`: never the same, never gone. Names are written last, so that a run
may be killed at any time: the next one finds what is there by its digests and goes on. Mirrors of
registries.conf are not asked: on a host that reads from the target, they would be the target.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Literal

import msgspec

from imagechain.config import MirrorSettings
from imagechain.mirror.gate import Gate
from imagechain.mirror.narrow import is_narrowed_from, narrow
from imagechain.mirror.plan import in_order, previous_tag, tag_before
from imagechain.mirror.select import is_name, select
from imagechain.refs import Platform, parse_platform, parse_reference
from imagechain.registry import (
    AbsentError,
    Copier,
    Descriptor,
    Index,
    Manifest,
    RegistryClient,
    RegistryError,
    Repository,
    ServerFailedError,
    WritableRepository,
)
from imagechain.registry.manifest import referrers_tag
from imagechain.together import together
from imagechain.vetting.history import look_at_tag

if TYPE_CHECKING:
    from imagechain.vetting.values import Sighting

#: Tags that are looked at or copied at the same time.
TAGS_AT_ONCE_MAX = 16
#: How cosign names signatures, attestations and lists of packages where it uses no referrers.
_COSIGN_SUFFIXES = (".sig", ".att", ".sbom")

Outcome = Literal["same", "copied", "to copy", "held", "absent", "failed", "unknown"]


class MirrorResult(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one tag, or of a repository whose tags could not be listed."""

    source: str
    target: str
    #: `held`: it moved, and may not be mirrored yet. `absent`: the source was asked and does not have it.
    #: `unknown`: it could not be looked at.
    outcome: Outcome
    #: Of the source.
    digest: str = ""
    #: The dated tag under which the digest before is kept.
    previous: str = ""
    #: Blobs that were sent, mounted, and their bytes.
    blobs: int = 0
    mounted: int = 0
    blob_bytes: int = 0
    message: str = ""


class _Pair(msgspec.Struct, frozen=True):
    """A mirror with its two sides."""

    mirror: MirrorSettings
    source: Repository
    target: WritableRepository

    @property
    def platforms(self) -> tuple[Platform, ...]:
        return tuple(parse_platform(platform) for platform in self.mirror.platforms)


class Syncer:
    """Brings targets up to date."""

    def __init__(
        self,
        client: RegistryClient,
        *,
        now: Callable[[], float],
        dry_run: bool = False,
        gate: Gate | None = None,
        told: Callable[[MirrorResult], None] = lambda _: None,
    ) -> None:
        """Prepare.

        Args:
            client: for both sides.
            now: Unix time.
            dry_run: look, and write nothing.
            gate: tells what may not be mirrored yet; None: all may.
            told: is told each result as soon as it is there.
        """
        self._client = client
        self._copier = Copier()
        self._now = now
        self._dry_run = dry_run
        self._gate = gate
        self._told = told
        self._at_once = asyncio.Semaphore(TAGS_AT_ONCE_MAX)
        #: What was seen of the sources' tags, for whoever keeps a history.
        self.sightings: list[Sighting] = []

    async def sync(self, mirrors: Sequence[MirrorSettings]) -> dict[str, list[MirrorResult]]:
        """Bring all up to date; give the results by target, as it stands in the settings.

        Raises:
            ConfigError: the list contradicts itself.
        """
        results: dict[str, list[MirrorResult]] = {}
        for group in in_order(mirrors):
            synced = await together(*(self._mirror(mirror) for mirror in group))
            results |= {mirror.target: found for mirror, found in zip(group, synced, strict=True)}
        return results

    async def selected(self, mirror: MirrorSettings) -> tuple[str, ...]:
        """List the tags of the source that a mirror takes; the source is asked where not all are named.

        Raises:
            RegistryError: it could not be asked.
        """
        available: Iterable[str] = ()
        if not all(is_name(pattern) for pattern in mirror.tags):
            available = await self._client.direct(parse_reference(mirror.source)).tags()
        return select(mirror.tags, mirror.deny, mirror.newest, available)

    async def _mirror(self, mirror: MirrorSettings) -> list[MirrorResult]:
        source, target = parse_reference(mirror.source), parse_reference(mirror.target)
        try:
            tags = await self.selected(mirror)
            pair = _Pair(mirror, self._client.direct(source), self._client.direct(target))
        except RegistryError as error:
            result = _failure(source.name, target.name, error)
            self._told(result)
            return [result]
        return list(await together(*(self._tag(pair, tag) for tag in tags)))

    async def _tag(self, pair: _Pair, tag: str) -> MirrorResult:
        async with self._at_once:
            try:
                result = await self._look(pair, tag)
            except RegistryError as error:
                source, target = pair.source.endpoint, pair.target.endpoint
                result = _failure(f"{source}:{tag}", f"{target}:{tag}", error)
            self._told(result)
            return result

    async def _look(self, pair: _Pair, tag: str) -> MirrorResult:
        source, target = f"{pair.source.endpoint}:{tag}", f"{pair.target.endpoint}:{tag}"
        found, held = await together(pair.source.head(tag), _or_none(pair.target.head(tag)))
        digest = found.digest
        self.sightings += look_at_tag(source, digest, self._now())
        is_same = held is not None and await self._is_same(pair, digest, held)
        if not is_same and self._gate is not None:
            why = await self._gate.why_not(pair.mirror, source, target, digest)
            if why:
                message = f"{source} is held: {why}"
                return MirrorResult(
                    source=source, target=target, outcome="held", digest=digest, message=message
                )
        if self._dry_run:
            outcome: Outcome = "same" if is_same else "to copy"
            return MirrorResult(source=source, target=target, outcome=outcome, digest=digest)
        if is_same:
            if pair.mirror.referrers:
                await self._copy_referrers(pair, [digest])
            return MirrorResult(source=source, target=target, outcome="same", digest=digest)
        try:
            return await self._bring(pair, tag, digest, held)
        except AbsentError as error:
            # The tag was there a moment ago: "absent" would be wrong.
            problem = f"a part of {digest} is missing"
            raise ServerFailedError(source, problem, "it is being pushed or removed, or is broken") from error

    async def _bring(self, pair: _Pair, tag: str, digest: str, held: Descriptor | None) -> MirrorResult:
        """Copy what a tag of the source names now, and keep what the tag of the target named before."""
        source, target = f"{pair.source.endpoint}:{tag}", f"{pair.target.endpoint}:{tag}"
        root = await pair.source.manifest(digest)
        if isinstance(root, Index):
            platforms = {str(entry.platform): entry.digest for entry in root.entries if entry.platform}
            self.sightings += look_at_tag(source, digest, self._now(), platforms)
        wanted = root
        if pair.mirror.platforms and isinstance(root, Index):
            narrowed = narrow(root, pair.platforms)
            if narrowed is None:
                message = f"the source has none of the platforms {', '.join(pair.mirror.platforms)}"
                return MirrorResult(
                    source=source, target=target, outcome="failed", digest=digest, message=message
                )
            wanted = narrowed
        previous = ""
        if held is not None and pair.mirror.keep_previous:
            previous = await self._keep(pair.target, tag, held.digest)
        copied = await self._copier.copy(pair.source, pair.target, wanted, tag)
        if pair.mirror.referrers:
            children = [entry.digest for entry in wanted.entries] if isinstance(wanted, Index) else []
            await self._copy_referrers(pair, [digest, *children])
        return MirrorResult(
            source=source,
            target=target,
            outcome="copied",
            digest=digest,
            previous=previous,
            blobs=copied.blobs,
            mounted=copied.mounted,
            blob_bytes=copied.blob_bytes,
        )

    async def _is_same(self, pair: _Pair, digest: str, held: Descriptor) -> bool:
        if held.digest == digest or not pair.mirror.platforms:
            return held.digest == digest
        # The target is ours and counts no pulls; the source is still asked by HEAD only.
        return is_narrowed_from(await pair.target.manifest(held.digest), digest, pair.platforms)

    async def _keep(self, target: WritableRepository, tag: str, digest: str) -> str:
        """Put what a tag names now under a dated tag; give that. One that was cut off had done so already."""
        dated = sorted(each for each in await target.tags() if tag_before(each) == tag)
        if dated and (await target.head(dated[-1])).digest == digest:
            return dated[-1]
        old = await target.manifest(digest)
        name = previous_tag(tag, self._now())
        await target.put_manifest(name, old.raw, old.descriptor.media_type)
        return name

    async def _copy_referrers(self, pair: _Pair, digests: Sequence[str]) -> None:
        for digest in digests:
            for entry in await pair.source.referrers(digest):
                if not await pair.target.has_manifest(entry.digest):
                    await self._copy_one(pair, entry.digest, entry.digest)
            for suffix in _COSIGN_SUFFIXES:
                tag = referrers_tag(digest) + suffix
                found = await _or_none(pair.source.head(tag))
                held = await _or_none(pair.target.head(tag)) if found is not None else None
                if found is not None and (held is None or held.digest != found.digest):
                    await self._copy_one(pair, found.digest, tag)

    async def _copy_one(self, pair: _Pair, digest: str, name: str) -> None:
        manifest: Manifest | Index = await pair.source.manifest(digest)
        await self._copier.copy(pair.source, pair.target, manifest, name)


async def _or_none(question: Awaitable[Descriptor]) -> Descriptor | None:
    try:
        return await question
    except AbsentError:
        return None


def _failure(source: str, target: str, error: RegistryError) -> MirrorResult:
    """Tell apart what is gone, what may be looked at later, and what a person has to mend."""
    outcome: Outcome = "unknown" if error.kind == "retryable" else "failed"
    if isinstance(error, AbsentError):
        outcome = "absent"
    return MirrorResult(source=source, target=target, outcome=outcome, message=str(error))
