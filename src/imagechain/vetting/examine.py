"""Looks at images: asks registries and package archives, and holds what they say against the policy.

The imperative shell of this part; everything that is decided is decided by the pure modules beside it. What
could not be asked is "unknown" and never a pass.
"""

import asyncio
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

import msgspec

from imagechain.config import VettingSettings
from imagechain.refs import Platform, Reference, parse_reference
from imagechain.registry import AbsentError, Descriptor, RegistryClient, RegistryError, RemoteImage
from imagechain.registry.http import Sink
from imagechain.together import together
from imagechain.vetting import evidence, sources
from imagechain.vetting.archive import Archive, ArchiveError
from imagechain.vetting.distribution import (
    Distribution,
    Snapshot,
    Support,
    find_support,
    read_history,
    read_os_release,
)
from imagechain.vetting.history import History
from imagechain.vetting.judge import judge
from imagechain.vetting.layers import (
    APK_INSTALLED,
    DPKG_STATUS,
    DPKG_STATUS_FOLDER,
    LAYER_BYTES_MAX,
    OS_RELEASE,
    LayerError,
    LayerFiles,
    read_layer,
    stack,
    under,
)
from imagechain.vetting.packages import (
    Lagging,
    architecture_of,
    is_any_known,
    lagging_alpine,
    lagging_debian,
    read_apk,
    read_dpkg_status,
)
from imagechain.vetting.policy import Examined, evaluate, is_met, limits_of, policy_for
from imagechain.vetting.values import Finding, Sighting, Verdict

#: Images that are looked at at once.
PARALLEL_MAX = 8
#: Layers that are fetched at once; each may take `LAYER_BYTES_MAX` on disk.
_LAYERS_PARALLEL_MAX = 2

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
        self._archive = archive
        self._history = history
        self._settings = settings
        self._releases = releases
        self._clock = clock
        self._images = asyncio.Semaphore(PARALLEL_MAX)
        self._layers = asyncio.Semaphore(_LAYERS_PARALLEL_MAX)
        self._read_layers: dict[str, asyncio.Task[LayerFiles]] = {}
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
                modified_at = await self._modified_at(reference, image)
        except RegistryError as error:
            return msgspec.convert(about | {"met": policy.mode != "enforce", "problem": str(error)}, Vetted)
        now = self._clock()
        sighting = Sighting(
            ref=str(reference),
            platform=str(platform),
            digest=image.digest,
            index_digest=image.index_digest,
            seen_at=now,
            clocks=evidence.clocks_of(image, snapshot, modified_at),
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

    async def _signatures(self, reference: Reference, image: RemoteImage) -> tuple[str, ...] | None:
        """List signatures and attestations, wherever they are kept; None: it could not be asked."""
        kinds = list(image.attestations)
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
                files = stack(await together(*(self._layer(reference, layer) for layer in image.layers)))
            elif found is None and image.layers:
                # The lowest layer says it; what upper layers change of it, an upgrade did.
                files = (await self._layer(reference, image.layers[0])).files
        except (RegistryError, LayerError) as error:
            layers_problem = str(error)
        text = next((files[name] for name in OS_RELEASE if name in files), None)
        if text is not None:
            found = read_os_release(text) or found
        packages: tuple[Lagging, ...] | None = None
        packages_problem = layers_problem
        if needs_packages and not layers_problem:
            try:
                packages = tuple(await self._lagging(files))
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

    async def _lagging(self, files: Mapping[str, str]) -> list[Lagging]:
        apk = next((files[name] for name in APK_INSTALLED if name in files), None)
        is_alpine = apk is not None
        if apk is not None:
            installed = read_apk(apk)
        else:
            texts = (files.get(DPKG_STATUS, ""), *under(files, DPKG_STATUS_FOLDER))
            installed = [package for text in texts for package in read_dpkg_status(text)]
        if not installed:
            raise LayerError("it holds neither dpkg's nor apk's list of packages")
        find = sources.alpine_indexes if is_alpine else sources.debian_indexes
        addresses = find(files, architecture_of(installed))
        if not addresses:
            raise LayerError("its files name no package archive to compare with")
        indexes = await self._archive.indexes(addresses, is_alpine=is_alpine)
        if not is_any_known(installed, indexes):
            # An archive of something else, or one that was emptied: that nothing is behind it means nothing.
            raise LayerError(f"none of its {len(installed)} packages is in the indexes that it names")
        return (lagging_alpine if is_alpine else lagging_debian)(installed, indexes)

    async def _layer(self, reference: Reference, layer: Descriptor) -> LayerFiles:
        """Read a layer, once for all images that share it."""
        if layer.digest not in self._read_layers:
            self._read_layers[layer.digest] = asyncio.create_task(self._fetch_layer(reference, layer))
        return await asyncio.shield(self._read_layers[layer.digest])

    async def _fetch_layer(self, reference: Reference, layer: Descriptor) -> LayerFiles:
        if layer.size is None or layer.size > LAYER_BYTES_MAX:
            raise LayerError(
                f"layer {layer.digest} is larger than {LAYER_BYTES_MAX} bytes, or hides its size"
            )
        async with self._layers:
            try:
                with tempfile.TemporaryDirectory(prefix="imagechain-vet-") as folder:
                    path = Path(folder) / "layer"
                    with path.open("wb") as file:
                        await self._client.direct(reference).stream_blob(layer, _write_to(file))
                    return await asyncio.to_thread(read_layer, path)
            except LayerError as error:
                raise LayerError(f"layer {layer.digest}: {error}") from error
            except OSError as error:
                raise _no_room(error) from error


def _write_to(file: BinaryIO) -> Sink:
    async def sink(chunk: bytes) -> None:
        try:
            file.write(chunk)
        except OSError as error:
            # The client would take it for a failure of the connection.
            raise _no_room(error) from error

    return sink


def _no_room(error: OSError) -> LayerError:
    return LayerError(
        f"it cannot be kept while it is read: {error.strerror}; let TMPDIR name a folder with room"
    )
