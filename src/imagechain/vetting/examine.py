"""Looks at images: asks registries and package archives, and holds what they say against the policy.

The imperative shell of this part; everything that is decided is decided by the pure modules beside it. What
could not be asked is "unknown" and never a pass.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import msgspec

from imagechain.config import VettingSettings
from imagechain.refs import Platform, Reference, parse_reference
from imagechain.registry import AbsentError, Manifest, RegistryClient, RegistryError, RemoteImage
from imagechain.vetting import evidence
from imagechain.vetting.archive import Archive, ArchiveError
from imagechain.vetting.clocks import PROVENANCE, is_outranked
from imagechain.vetting.distribution import (
    Distribution,
    Snapshot,
    Support,
    find_support,
    read_history,
    read_os_release,
)
from imagechain.vetting.history import History
from imagechain.vetting.inside import Inside
from imagechain.vetting.judge import judge
from imagechain.vetting.layers import OS_RELEASE, LayerError
from imagechain.vetting.policy import Examined, evaluate, is_met, limits_of, policy_for
from imagechain.vetting.provenance import PROVENANCE_BYTES_MAX, finished_on, provenance_of
from imagechain.vetting.values import Finding, Sighting, Verdict

if TYPE_CHECKING:
    from imagechain.vetting.packages import Lagging

#: Images that are looked at at once.
PARALLEL_MAX = 8

Releases = Mapping[str, Mapping[str, Support]]


class Vetted(msgspec.Struct, frozen=True, kw_only=True):
    """What was found out about one image."""

    ref: str
    platform: str
    policy: str
    mode: str
    #: Whether the policy is met.
    met: bool
    #: Why nothing could be found out; empty: it could.
    problem: str = ""
    digest: str = ""
    verdict: Verdict | None = None
    base: str = ""
    distribution: str = ""
    findings: tuple[Finding, ...] = ()


class _Based(msgspec.Struct, frozen=True):
    ref: str = ""
    digest: str = ""


class Examiner:
    """Vets images; sightings are collected in `sightings` for whoever keeps them."""

    def __init__(
        self,
        client: RegistryClient,
        archive: Archive,
        history: History,
        *,
        settings: VettingSettings,
        releases: Releases,
        clock: Callable[[], float],
    ) -> None:
        self._client = client
        self._inside = Inside(client, archive)
        self._history = history
        self._settings = settings
        self._releases = releases
        self._clock = clock
        self._images = asyncio.Semaphore(PARALLEL_MAX)
        self.sightings: list[Sighting] = []

    async def vet(self, reference: Reference, platform: Platform, *, digest: str = "") -> Vetted:
        """Vet one image. Raises nothing that a registry or an archive can cause.

        Args:
            reference: its name.
            platform: which of its images.
            digest: what the name was found to stand for just now; empty: that is asked.
        """
        name, policy = policy_for(self._settings, reference)
        about = {"ref": str(reference), "platform": str(platform), "policy": name, "mode": policy.mode}
        try:
            async with self._images:
                digest = digest or (await self._client.head(reference)).digest
                image = (await self._client.images(reference, digest, (platform,)))[platform]
                snapshot = read_history([entry.created_by for entry in image.config.history or ()])
                based = await self._find_base(image, platform, snapshot.distribution)
                clocks = evidence.clocks_of(image, snapshot, await self._modified_at(reference, image))
                if image.attestations and self._needs_provenance(reference, platform, image, clocks):
                    clocks |= await self._provenance_clock(reference, image)
        except RegistryError as error:
            return msgspec.convert(about | {"met": policy.mode != "enforce", "problem": str(error)}, Vetted)
        now = self._clock()
        sighting = Sighting(
            ref=str(reference),
            platform=str(platform),
            digest=image.digest,
            index_digest=image.index_digest,
            seen_at=now,
            clocks=clocks,
            version=evidence.version_of(image),
            base=based.ref,
            base_digest=based.digest,
        )
        self._see(sighting)
        needs_packages = policy.security_updates_max >= 0
        examined = await self._look_inside(reference, image, snapshot, based, needs_packages=needs_packages)
        if policy.signed:
            signatures = await self._signatures(reference, image)
            examined = msgspec.structs.replace(examined, signatures=signatures)
        verdict = judge(self._history, str(reference), str(platform), limits=limits_of(policy), now=now)
        findings = evaluate(
            policy, reference, verdict, examined, exceptions=self._settings.exceptions, now=now
        )
        return Vetted(
            **about,
            met=is_met(policy, findings),
            digest=image.digest,
            verdict=verdict,
            base=based.ref,
            distribution=str(examined.distribution or ""),
            findings=findings,
        )

    def _see(self, sighting: Sighting) -> None:
        self._history.add(sighting)
        self.sightings.append(sighting)

    async def _find_base(self, image: RemoteImage, platform: Platform, found: Distribution | None) -> _Based:
        """Find what an image is built from, and look at that too: only its history shows a rebuild lag."""
        named = evidence.named_base(image)
        for ref in [named.ref] if named is not None else evidence.likely_bases(found):
            try:
                base = await self._client.image(parse_reference(ref), platform)
            except RegistryError:
                # What cannot be read cannot be compared; the image itself is judged all the same.
                continue
            is_present = evidence.is_built_on(image.config, base.config)
            if named is None and not is_present:
                continue
            if named is not None and named.digest in {base.digest, base.index_digest}:
                is_present = True
            self._see(
                Sighting(
                    ref=ref,
                    platform=str(platform),
                    digest=base.digest,
                    index_digest=base.index_digest,
                    seen_at=self._clock(),
                )
            )
            return _Based(ref, base.digest if is_present else "")
        return _Based(named.ref, "") if named is not None else _Based()

    async def _modified_at(self, reference: Reference, image: RemoteImage) -> float | None:
        """Ask when the image's config came to the registry; few registries tell."""
        try:
            return await self._client.direct(reference).blob_modified_at(image.config_digest)
        except RegistryError:
            return None

    def _needs_provenance(
        self, reference: Reference, platform: Platform, image: RemoteImage, clocks: Mapping[str, float]
    ) -> bool:
        """Tell whether provenance, which costs a pull, may say more than what is known."""
        runs = self._history.runs(str(reference), str(platform))
        has_moved = any(run.digest != image.digest for run in runs)
        was_read = any(PROVENANCE in run.clocks for run in runs)
        return not (has_moved or was_read or is_outranked(PROVENANCE, clocks, self._clock()))

    async def _provenance_clock(self, reference: Reference, image: RemoteImage) -> dict[str, float]:
        """Ask the provenance beside an image when it was built; what cannot be read says nothing."""
        for entry in image.attestations:
            pinned = msgspec.structs.replace(reference, tag=None, digest=entry.digest)
            try:
                manifest = await self._client.manifest(pinned)
                found = provenance_of(manifest) if isinstance(manifest, Manifest) else None
                if found is None:
                    continue
                statement = await self._client.direct(reference).blob(found.digest, PROVENANCE_BYTES_MAX)
            except RegistryError:
                continue
            finished_at = evidence.read_time(finished_on(statement, image.digest))
            if finished_at is not None:
                return {PROVENANCE: finished_at}
        return {}

    async def _signatures(self, reference: Reference, image: RemoteImage) -> tuple[str, ...] | None:
        """List signatures and attestations, wherever they are kept; None: it could not be asked."""
        kinds = [evidence.kind_of(entry) for entry in image.attestations]
        try:
            kinds += [
                entry.artifact_type or entry.media_type
                for digest in dict.fromkeys((image.index_digest, image.digest))
                for entry in await self._client.direct(reference).referrers(digest)
            ]
            for digest in dict.fromkeys((image.index_digest, image.digest)):
                for suffix in evidence.COSIGN_SUFFIXES:
                    tag = digest.replace(":", "-") + suffix
                    if await self._is_there(msgspec.structs.replace(reference, tag=tag, digest=None)):
                        kinds.append(f"cosign{suffix}")
        except RegistryError:
            return None
        return tuple(dict.fromkeys(kinds))

    async def _is_there(self, reference: Reference) -> bool:
        try:
            await self._client.head(reference)
        except AbsentError:
            return False
        return True

    async def _look_inside(
        self,
        reference: Reference,
        image: RemoteImage,
        snapshot: Snapshot,
        based: _Based,
        *,
        needs_packages: bool,
    ) -> Examined:
        """Find the distribution and, where the policy asks for it, the packages that are behind."""
        found, files, layers_problem = snapshot.distribution, {}, ""
        try:
            if needs_packages:
                files = await self._inside.files(reference, image.layers)
            elif found is None and image.layers:
                # The lowest layer says it; what upper layers change of it, an upgrade did.
                files = await self._inside.files(reference, image.layers[:1])
        except (RegistryError, LayerError) as error:
            layers_problem = str(error)
        text = next((files[name] for name in OS_RELEASE if name in files), None)
        if text is not None:
            found = read_os_release(text) or found
        packages: tuple[Lagging, ...] | None = None
        packages_problem = layers_problem
        if needs_packages and not layers_problem:
            try:
                packages = tuple(await self._inside.lagging(files))
            except (ArchiveError, LayerError) as error:
                packages_problem = str(error)
        return Examined(
            base=based.ref,
            distribution=found,
            support=find_support(self._releases, found) if found is not None else None,
            packages=packages,
            packages_problem=packages_problem,
            layers_problem=layers_problem,
        )
