"""Build with buildah: no daemon, fixed times in layers, the config rewritten before the image is named.

A build goes through four calls: `build` (nameless), `inspect` (its config), `pull dir:` (the same layers
under the rewritten config; no blob is copied, the store finds each layer by its digest), `tag`. So a name
never points to an incomplete image.

Whatever a build leaves behind can be told from what belongs to people: a working container remembers the
`--default-mounts-file` of its build (an empty file in the build's folder), an unfinished image its label.
"""

import asyncio
import re
import resource
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec

from imagechain.images import process
from imagechain.images.builder import (
    BuilderError,
    BuildFailedError,
    BuildRequest,
    ImageFacts,
    Listing,
    RegistryAccess,
    StoredImage,
    facts_of,
)
from imagechain.images.isolation import choose_isolation
from imagechain.images.process import ProgramError
from imagechain.images.provenance import base_labels, not_inherited, oci_annotations
from imagechain.images.rewrite import BUILDING_LABEL, rewrite
from imagechain.refs import Platform, decode_image_config, parse_reference

#: Without these a build cannot be what it must be; buildah has them all since 1.24.
NEEDED_FLAGS = (
    "--timestamp",
    "--iidfile",
    "--identity-label",
    "--build-context",
    "--ignorefile",
    "--isolation",
)
#: How buildah names an image that it cannot read, and asks to have it removed.
_TORN_IMAGE = re.compile(r'image with ID "([0-9a-f]{64})"')
_TORN_SECONDS = 1.0
_PULL_SECONDS_MAX = 3600.0
#: What newer versions raise limits of RUN to by themselves, which the kernel refuses in many containers.
_LIMITS_RAISED_TO = 1_048_576
_PROCESS_IDS = Path("/proc/sys/kernel/pid_max")
_LIMITS = {"nofile": resource.RLIMIT_NOFILE, "nproc": resource.RLIMIT_NPROC}
_DIR_VERSION = "Directory Transport Version: 1.1\n"
_MARKER_NAME = "mounts.conf"


class _ListedImage(msgspec.Struct):
    id: str
    names: tuple[str, ...] | None = None
    digest: str = ""


class _ListedContainer(msgspec.Struct):
    id: str


class _Inspected(msgspec.Struct):
    id: str = msgspec.field(name="FromImageID", default="")
    config: str = msgspec.field(name="Config", default="")
    manifest: str = msgspec.field(name="Manifest", default="")


class _InspectedContainer(msgspec.Struct):
    mounts_file: str = msgspec.field(name="DefaultMountsFilePath", default="")


_T = TypeVar("_T")
_IMAGES = msgspec.json.Decoder(tuple[_ListedImage, ...])
_CONTAINERS = msgspec.json.Decoder(tuple[_ListedContainer, ...])
_IMAGE = msgspec.json.Decoder(_Inspected)
_CONTAINER = msgspec.json.Decoder(_InspectedContainer)


class Buildah:
    """buildah, as a `Builder`."""

    program = "buildah"

    def __init__(self, access: RegistryAccess | None = None) -> None:
        self._access = access or RegistryAccess()
        self._isolation = "chroot"
        #: Images without the rewritten config: removed together, as each removal costs a start of buildah.
        self._unfinished: list[str] = []

    async def prepare(self, cache_folder: Path) -> str:
        """Choose how RUN is isolated."""
        self._isolation, why = await choose_isolation(cache_folder)
        return f"buildah, isolation {self._isolation}: {why}"

    async def list_images(self) -> Listing:
        """List the local store, in one call."""
        listed = await _ask(_IMAGES, "images", "--json", "--no-trunc", "--all")
        return Listing.of(
            [StoredImage(_plain_id(image.id), image.names or (), image.digest) for image in listed]
        )

    async def read_image(self, image: str) -> ImageFacts:
        """Read the config of one image."""
        inspected = await self._inspect(image)
        return facts_of(_plain_id(inspected.id), decode_image_config(inspected.config))

    async def pull(self, reference: str, platform: Platform | None = None) -> str:
        """Fetch an image from its registry; what is here under its digest is not fetched again."""
        wanted = parse_reference(reference)
        # Registries are asked by tag or by digest, never by both.
        name = f"{wanted.name}@{wanted.digest}" if wanted.digest else str(wanted)
        pulled = await _call(
            "pull",
            "--quiet",
            *self._registry_flags(wanted.domain),
            *((f"--platform={platform}",) if platform else ()),
            name,
            timeout_seconds=_PULL_SECONDS_MAX,
        )
        return _plain_id(pulled.decode())

    async def build(self, request: BuildRequest, write_log: Callable[[bytes], None]) -> ImageFacts:
        """Build an image, rewrite its config, and name it."""
        id_file = request.work / "id"
        marker = request.work / _MARKER_NAME
        try:
            marker.touch()
            argv = self._build_argv(request, marker, id_file)
            exit_code = await process.stream(argv, write_log, temporary=request.work)
            if exit_code != 0:
                raise BuildFailedError(f"buildah {process.ending(exit_code)}")
            facts = await self._finish(_plain_id(id_file.read_text()), request)
        except (OSError, ProgramError) as error:
            raise BuilderError(str(error)) from error
        return facts

    async def push(self, image_id: str, name: str, work: Path) -> str:
        """Push an image; the registry's digest comes back in a file."""
        digest_file = work / "digest"
        await _call(
            "push",
            "--quiet",
            *self._registry_flags(parse_reference(name).domain),
            *("--digestfile", str(digest_file)),
            image_id,
            f"docker://{name}",
            timeout_seconds=_PULL_SECONDS_MAX,
        )
        return digest_file.read_text().strip()

    async def remove(self, image_ids: Sequence[str]) -> None:
        """Remove images; buildah itself refuses those in use, and goes on with the next."""
        if image_ids:
            await process.run(["buildah", "rmi", *image_ids], timeout_seconds=600.0)

    async def tidy(self) -> None:
        """Remove the images that were rewritten."""
        await self.remove(self._unfinished)
        self._unfinished.clear()

    async def sweep(self, is_leftover: Callable[[str], bool]) -> int:
        """Remove working containers and unfinished images of builds that are no more."""
        removed = await self._remove_torn_images()
        for container in await _ask(_CONTAINERS, "containers", "--json"):
            try:
                inspected = await _ask(_CONTAINER, "inspect", "--type", "container", container.id)
            except BuilderError:
                continue  # it ended meanwhile
            if inspected.mounts_file and is_leftover(str(Path(inspected.mounts_file).parent)):
                await process.run(["buildah", "rm", container.id])
                removed += 1
        for image in await self._list_unfinished():
            try:
                config = decode_image_config((await self._inspect(_plain_id(image.id))).config)
            except BuilderError:
                continue
            if not image.names and is_leftover(config.labels.get(BUILDING_LABEL, "")):
                await self.remove([_plain_id(image.id)])
                removed += 1
        return removed

    async def _list_unfinished(self) -> tuple[_ListedImage, ...]:
        return await _ask(
            _IMAGES, "images", "--json", "--no-trunc", "--all", "--filter", f"label={BUILDING_LABEL}"
        )

    async def _remove_torn_images(self) -> int:
        """Remove images of which a killed program wrote only a part.

        With some of them nothing can be listed; others have neither a name nor a digest, and stay for ever.
        Another program may be writing such an image just now: only what stays torn is of no use to anybody.
        """
        removed: list[str] = []
        while True:
            try:
                await self._list_unfinished()
            except BuilderError as error:
                torn = _TORN_IMAGE.search(str(error))
                if torn is None or torn[1] in removed:
                    raise
                await asyncio.sleep(_TORN_SECONDS)
                if torn[1] in str(await self._listing_error()):
                    await self.remove([torn[1]])
                    removed.append(torn[1])
            else:
                break
        if suspects := await self._images_without_digest():
            await asyncio.sleep(_TORN_SECONDS)
            still_torn = suspects & await self._images_without_digest()
            await self.remove(sorted(still_torn))
            removed += still_torn
        return len(removed)

    async def _images_without_digest(self) -> set[str]:
        listing = await self.list_images()
        return {image.id for image in listing.images if not image.names and not image.digest}

    async def _listing_error(self) -> BuilderError | None:
        try:
            await self._list_unfinished()
        except BuilderError as error:
            return error
        return None

    def _build_argv(self, request: BuildRequest, marker: Path, id_file: Path) -> list[str]:
        return [
            "buildah",
            *("--default-mounts-file", str(marker)),
            "build",
            *("--isolation", self._isolation),
            *("--format", "docker" if request.docker_format else "oci"),
            *("--timestamp", "0"),
            "--identity-label=false",
            *caching_flags(request, self._access),
            *limit_flags(),
            "--force-rm",
            # Everything that is read was looked at before, so that the record of it is true.
            "--pull=never",
            *target_flags(request),
            *("--label", f"{BUILDING_LABEL}={request.work}"),
            *(f"--build-context={name}=container-image://{image}" for name, image in request.pins.items()),
            *(f"--build-arg={name}={value}" for name, value in request.build_args.items()),
            *(("--ignorefile", str(request.ignore_file)) if request.ignore_file else ()),
            *("--iidfile", str(id_file)),
            *("--file", str(request.containerfile)),
            str(request.context),
        ]

    async def _finish(self, built_id: str, request: BuildRequest) -> ImageFacts:
        self._unfinished.append(built_id)
        built = await self._inspect(built_id)
        layers = decode_image_config(built.config).diff_ids
        labels = {**request.labels, **base_labels(request.bases, layers)}
        image = rewrite(
            built.config,
            built.manifest,
            labels=labels,
            annotations=oci_annotations(labels),
            not_inherited=not_inherited(request.bases),
            created=request.created,
        )
        folder = request.work / "image"
        folder.mkdir()
        (folder / "version").write_text(_DIR_VERSION)
        (folder / "manifest.json").write_bytes(image.manifest)
        (folder / image.image_id).write_bytes(image.config)
        pulled = (await _call("pull", "--quiet", f"dir:{folder}")).decode().strip()
        if _plain_id(pulled) != image.image_id:
            raise BuilderError(
                f"buildah stored the image as {pulled} instead of {image.image_id}; please report this with "
                "the output of `buildah version`"
            )
        if request.names:
            await _call("tag", image.image_id, *request.names)
        return facts_of(image.image_id, decode_image_config(image.config))

    def _registry_flags(self, host: str) -> tuple[str, ...]:
        return registry_flags(self._access, host)

    async def _inspect(self, image: str) -> _Inspected:
        return await _ask(_IMAGE, "inspect", "--type", "image", image)


def registry_flags(access: RegistryAccess, host: str) -> tuple[str, ...]:
    """How buildah and podman are told to get at a registry."""
    return (
        *((f"--authfile={access.auth_file}",) if access.auth_file else ()),
        *(("--tls-verify=false",) if host in access.insecure_hosts else ()),
    )


def target_flags(request: BuildRequest) -> tuple[str, ...]:
    """How all builders are told what of a Containerfile is built, for what, and with which secrets."""
    return (
        *((f"--target={request.target}",) if request.target else ()),
        *((f"--platform={request.platform}",) if request.platform else ()),
        *(f"--secret={secret}" for secret in request.secrets),
    )


def caching_flags(request: BuildRequest, access: RegistryAccess) -> tuple[str, ...]:
    """How buildah and podman are told where layers of builds are kept; without caches none are."""
    caches = (*request.cache_from, *request.cache_to)
    if not caches:
        return ("--layers=false",)
    flags = (registry_flags(access, parse_reference(cache).domain) for cache in caches)
    return (
        "--layers",
        *dict.fromkeys(flag for each in flags for flag in each),
        *(f"--cache-from={cache}" for cache in request.cache_from),
        *(f"--cache-to={cache}" for cache in request.cache_to),
    )


def limit_flags() -> tuple[str, ...]:
    """Keep the limits of this process for RUN where buildah and podman would try to raise them."""
    flags = []
    for name, number in _LIMITS.items():
        limits = resource.getrlimit(number)
        if limits[1] != resource.RLIM_INFINITY and limits[1] < _LIMITS_RAISED_TO:
            # Older versions take no more processes for themselves than there are ids, and cannot give more.
            most = _process_ids() if name == "nproc" else _LIMITS_RAISED_TO
            soft, hard = (min(limit, most) for limit in limits)
            flags.append(f"--ulimit={name}={soft}:{hard}")
    return tuple(flags)


def _process_ids() -> int:
    try:
        return int(_PROCESS_IDS.read_text())
    except (OSError, ValueError):
        return _LIMITS_RAISED_TO


async def _call(*arguments: str, timeout_seconds: float = 120.0) -> bytes:
    try:
        return (await process.run(["buildah", *arguments], timeout_seconds=timeout_seconds)).check().output
    except ProgramError as error:
        raise BuilderError(str(error)) from error


async def _ask(decoder: "msgspec.json.Decoder[_T]", *arguments: str) -> _T:
    output = await _call(*arguments)
    try:
        return decoder.decode(b"[]" if output.strip() in (b"", b"null") else output)
    except msgspec.DecodeError as error:
        raise BuilderError(
            f"buildah {' '.join(arguments[:2])} printed what cannot be read: {error}"
        ) from error


def _plain_id(text: str) -> str:
    return text.strip().removeprefix("sha256:")
