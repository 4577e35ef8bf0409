"""Reads images of registries: what a reference names now, and what the image is for a platform.

Mirrors come first and the registry's own answer is final; what a digest names is remembered, because it never
changes. What could not be checked is an error of its own kind, so that nobody can take it for "absent" or for
"unchanged". Nothing here writes; `direct` gives a repository that does.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TypeVar

import msgspec

from imagechain.config import RegistrySettings
from imagechain.refs import ImageConfig, Platform, Reference, content_key, decode_image_config
from imagechain.registry.access import ATTEMPTS_MAX, Access, Clock, Sleep
from imagechain.registry.cache import Cache
from imagechain.registry.credentials import Credential, Credentials
from imagechain.registry.errors import (
    AbsentError,
    NotAnImageError,
    PlatformAbsentError,
    RegistryError,
    ServerFailedError,
)
from imagechain.registry.http import Http
from imagechain.registry.manifest import (
    Descriptor,
    Index,
    IndexEntry,
    Manifest,
    RemoteImage,
    attestations_of,
    choose_entry,
    runs,
)
from imagechain.registry.mirrors import Endpoint, Registries
from imagechain.registry.repository import Repository
from imagechain.registry.writing import WritableRepository

if TYPE_CHECKING:
    import httpx2

CONFIG_BYTES_MAX = 8 * 1024 * 1024
#: Images that are remembered, by the bytes that their manifests and configs came in.
IMAGES_BYTES_MAX = 64 * 1024 * 1024
#: Manifests and indexes that are remembered, by the bytes that they came in.
MANIFESTS_BYTES_MAX = 16 * 1024 * 1024
_REGISTRIES_MAX = 10_000

T = TypeVar("T")


class _Content(msgspec.Struct, frozen=True):
    """What the digest of a manifest stands for."""

    config: ImageConfig
    content_key: str
    annotations: dict[str, str]
    config_digest: str
    layers: tuple[Descriptor, ...]


class RegistryClient:
    """Asks registries for images. An asynchronous context manager; its connections end with it."""

    def __init__(
        self,
        *,
        settings: Mapping[str, RegistrySettings] | None = None,
        auth_files: Sequence[Path] = (),
        fallbacks: Mapping[str, Credential] | None = None,
        registries: Registries | None = None,
        leaves_reserve: bool = False,
        transport: "httpx2.AsyncBaseTransport | None" = None,
        clock: Clock = time.monotonic,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        """Prepare; nothing is asked yet.

        Args:
            settings: the tables `[registry."HOST"]`, by host.
            auth_files: where logins are, besides those of the settings (`usual_auth_files`).
            fallbacks: by host, the login where no file has one, such as GitLab's token for its registry.
            registries: mirrors and blocked registries (`read_registries`).
            leaves_reserve: whether pulls stop while the part of a quota that the settings reserve is left:
                for what may wait.
            transport: instead of the network, for tests.
            clock: seconds that never go back.
            sleep: waits.
        """
        self._settings = settings or {}
        self._registries = registries or Registries()
        own_files = {host: Path(table.auth_file) for host, table in self._settings.items() if table.auth_file}
        credentials = Credentials(
            auth_files, own_files=own_files, fallbacks={} if fallbacks is None else fallbacks, clock=clock
        )
        self._http = Http(transport)
        self._access = Access(
            self._http, credentials, self._settings, leaves_reserve=leaves_reserve, clock=clock, sleep=sleep
        )
        self._without_head: Cache[str, bool] = Cache(_REGISTRIES_MAX, clock)
        self._manifests: Cache[str, Manifest | Index] = Cache(MANIFESTS_BYTES_MAX, clock)
        self._contents: Cache[str, _Content] = Cache(IMAGES_BYTES_MAX, clock)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.close()

    async def head(self, reference: Reference) -> Descriptor:
        """Tell what a reference names now; a HEAD wherever the registry answers one, which counts as no pull.

        Raises:
            AbsentError: there is no such image.
            UncheckedError: nothing is known.
        """
        return await self._ask(reference, lambda repository: repository.head(_target(reference)))

    async def manifest(self, reference: Reference) -> Manifest | Index:
        """Fetch the manifest or index that a reference names now.

        Raises:
            AbsentError: there is no such image.
            UncheckedError: nothing is known.
        """
        return await self._ask(reference, lambda repository: repository.manifest(_target(reference)))

    async def tags(self, repository: Reference) -> list[str]:
        """List the tags of a repository; of the reference, only the name counts.

        Raises:
            AbsentError: there is no such repository.
            UncheckedError: nothing is known.
        """
        return await self._ask(repository, lambda asked: asked.tags())

    async def image(self, reference: Reference, platform: Platform) -> RemoteImage:
        """Read the image for a platform. Costs one HEAD while the reference names what it named before.

        Raises:
            AbsentError: there is no such image, or not for the platform (`PlatformAbsentError`).
            UncheckedError: nothing is known.
        """
        digest = (await self.head(reference)).digest
        found = await self.images(reference, digest, (platform,))
        return found[platform]

    async def images(
        self, reference: Reference, digest: str, platforms: Sequence[Platform]
    ) -> dict[Platform, RemoteImage]:
        """Read what a digest stands for that a reference named: its images for those platforms that it has.

        What is no index is for one platform: the first of those that run it, else the first at all.

        Raises:
            PlatformAbsentError: it has none of them.
            UncheckedError: nothing is known.
        """
        try:
            index = await self._index(reference, digest)
            if index is None:
                content = await self._content(reference, digest)
                return {_runs_on(content.config, platforms): _image(digest, digest, content)}
            return await self._images_in(reference, index, platforms)
        except PlatformAbsentError:
            raise
        except AbsentError as error:
            # The tag was there a moment ago: "absent" would be wrong.
            problem = f"a part of {digest} is missing"
            raise ServerFailedError(
                str(reference), problem, "it is being pushed or removed, or is broken"
            ) from error

    def direct(self, reference: Reference) -> WritableRepository:
        """Give the repository of a reference at its own registry, to read what is true there, and to write.

        No mirror answers for it: a mirror may lag behind, and writes nothing.

        Raises:
            BlockedError: registries.conf blocks it.
        """
        # Asked for what it blocks only: a location in it says where images are read from.
        self._registries.endpoints(reference)
        insecure = self._settings.get(reference.domain, RegistrySettings()).insecure
        return WritableRepository(
            self._access,
            Endpoint(reference.domain, reference.path, insecure),
            subject=reference.name,
            without_head=self._without_head,
            manifests=self._manifests,
        )

    async def _images_in(
        self, reference: Reference, index: Index, platforms: Sequence[Platform]
    ) -> dict[Platform, RemoteImage]:
        index_digest = index.descriptor.digest
        found = {}
        for platform in platforms:
            entry = choose_entry(index.entries, platform)
            if entry is not None:
                found[platform] = _image(
                    index_digest,
                    entry.digest,
                    await self._content(reference, entry.digest),
                    {**index.annotations, **(entry.annotations or {})},
                    attestations_of(index.entries, entry.digest),
                )
        if found:
            return found
        offered = sorted({str(entry.platform) for entry in index.entries if entry.platform is not None})
        wanted = " or ".join(map(str, platforms))
        problem = f"there is no image for {wanted}, only for {', '.join(offered) or 'no platform at all'}"
        raise PlatformAbsentError(str(reference), problem, "choose another image, or wait for its builder")

    async def _index(self, reference: Reference, digest: str) -> Index | None:
        """Give the index that a digest is of; None: it is of a manifest, whose content is remembered then."""
        if self._contents.get(digest) is not None:
            return None
        found = await self.manifest(_pinned(reference, digest))
        if isinstance(found, Index):
            return found
        await self._read_content(reference, found)
        return None

    async def _content(self, reference: Reference, digest: str) -> _Content:
        content = self._contents.get(digest)
        if content is not None:
            return content
        return await self._read_content(reference, await self.manifest(_pinned(reference, digest)))

    async def _read_content(self, reference: Reference, manifest: Manifest | Index) -> _Content:
        if isinstance(manifest, Index) or not manifest.is_image:
            what = "an index in an index" if isinstance(manifest, Index) else repr(manifest.config.media_type)
            problem = f"it is no container image, but {what}"
            raise NotAnImageError(str(reference), problem, "name an image")
        digest = manifest.config.digest
        data = await self._ask(
            _pinned(reference, digest), lambda repository: repository.blob(digest, CONFIG_BYTES_MAX)
        )
        try:
            config = decode_image_config(data)
        except (ValueError, RecursionError) as error:
            raise NotAnImageError(
                str(reference), f"its config cannot be read: {error}", "build it again"
            ) from error
        content = _Content(config, content_key(config), manifest.annotations, digest, manifest.layers)
        self._contents.put(manifest.descriptor.digest, content, weight=len(data) + len(manifest.raw))
        return content

    async def _ask(self, reference: Reference, ask: Callable[[Repository], Awaitable[T]]) -> T:
        """Ask the mirrors of a reference in turn, and then its registry, whose answer is final."""
        *mirrors, primary = self._registries.endpoints(reference)
        failures: list[str] = []
        for mirror in mirrors:
            try:
                return await ask(self._repository(mirror, reference, attempts_max=1))
            except RegistryError as error:
                failures.append(f"before that, its mirror was asked: {error}")
        try:
            return await ask(self._repository(primary, reference, attempts_max=ATTEMPTS_MAX))
        except RegistryError as error:
            for failure in failures:
                error.add_note(failure)
            raise

    def _repository(self, endpoint: Endpoint, reference: Reference, *, attempts_max: int) -> Repository:
        if self._settings.get(endpoint.domain, RegistrySettings()).insecure:
            endpoint = msgspec.structs.replace(endpoint, insecure=True)
        elsewhere = f" (at {endpoint})" if str(endpoint) != reference.name else ""
        return Repository(
            self._access,
            endpoint,
            subject=f"{reference}{elsewhere}",
            without_head=self._without_head,
            manifests=self._manifests,
            attempts_max=attempts_max,
        )


def _target(reference: Reference) -> str:
    """The digest decides, where there is one; `parse_reference` gives every reference a tag or a digest."""
    return reference.digest or reference.tag or ""


def _pinned(reference: Reference, digest: str) -> Reference:
    return msgspec.structs.replace(reference, tag=None, digest=digest)


def _image(
    index_digest: str,
    digest: str,
    content: _Content,
    annotations: Mapping[str, str] | None = None,
    attestations: tuple[IndexEntry, ...] = (),
) -> RemoteImage:
    return RemoteImage(
        index_digest=index_digest,
        digest=digest,
        config=content.config,
        content_key=content.content_key,
        annotations={**(annotations or {}), **content.annotations},
        config_digest=content.config_digest,
        layers=content.layers,
        attestations=attestations,
    )


def _runs_on(config: ImageConfig, platforms: Sequence[Platform]) -> Platform:
    """Tell which of the platforms an image is for that no index names a platform of."""
    built_for = Platform(config.os, config.architecture, config.variant)
    return next((one for one in platforms if runs(one, built_for)), platforms[0])
