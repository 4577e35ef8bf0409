"""Build with podman, docker or buildx, where buildah is missing: one command line, with few differences.

What they do not give, compared with buildah:

- The image's own time stays the epoch (podman) or the time of the build (docker), and labels in which a base
  speaks of itself are inherited where this image has none of its own.
- docker has no fixed times inside layers, so an unchanged rebuild changes the content, and what follows from
  it is rebuilt too. buildx has (BuildKit 0.13 and newer).
- docker and buildx cannot be told which image a reference stands for: it is given that name in the daemon's
  store, where builds look first.
- After a `kill -9` the working containers of podman stay until `podman system prune --external`.
"""

import contextlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from imagechain.images import process
from imagechain.images.buildah import caching_flags, limit_flags, registry_flags, target_flags
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
from imagechain.images.process import ProgramError
from imagechain.images.provenance import base_labels, oci_annotations
from imagechain.refs import ImageConfig, Platform, decode_image_config, parse_reference
from imagechain.refs.reference import ReferenceError

NEEDED_FLAGS = ("--iidfile", "--label", "--build-arg")
NEEDED_FLAGS_BUILDX = (*NEEDED_FLAGS, "--output", "--provenance", "--sbom")
_LIST_FORMAT = "{{.ID}}\t{{.Repository}}:{{.Tag}}\t{{.Digest}}"
_NONE = "<none>"
#: In the folder of docker's configuration: buildx itself, which builders it has, and which daemons there are.
_SETUP = ("cli-plugins", "buildx", "contexts")
_PULL_SECONDS_MAX = 3600.0
_PUSHED_DIGEST = re.compile(rb"digest: (sha256:[0-9a-f]{64})")


class _RootFs(msgspec.Struct):
    layers: tuple[str, ...] | None = msgspec.field(name="Layers", default=None)


class Inspected(msgspec.Struct):
    """What `image inspect` prints: an image config under other names."""

    id: str = msgspec.field(name="Id")
    architecture: str = msgspec.field(name="Architecture", default="")
    os: str = msgspec.field(name="Os", default="")
    variant: str = msgspec.field(name="Variant", default="")
    config: dict[str, Any] | None = msgspec.field(name="Config", default=None)
    #: podman keeps it beside the config, docker inside.
    healthcheck: dict[str, Any] | None = msgspec.field(name="Healthcheck", default=None)
    rootfs: _RootFs = msgspec.field(name="RootFS", default_factory=_RootFs)

    def image_config(self) -> ImageConfig:
        """Give the image config that it was made from, as far as content goes.

        Raises:
            ValueError: it is none.
        """
        config = dict(self.config or {})
        if self.healthcheck:
            config.setdefault("Healthcheck", self.healthcheck)
        blob = {
            "architecture": self.architecture,
            "os": self.os,
            "variant": self.variant,
            "config": {name: value for name, value in config.items() if value is not None},
            "rootfs": {"diff_ids": self.rootfs.layers or ()},
        }
        return decode_image_config(msgspec.json.encode(blob))


class DockerLike:
    """podman, docker or buildx, as a `Builder`."""

    def __init__(
        self, program: Literal["podman", "docker", "buildx"], access: RegistryAccess | None = None
    ) -> None:
        self.program: str = program
        self._access = access or RegistryAccess()
        self._isolation_type = os.environ.get("BUILDAH_ISOLATION") if program == "podman" else None

    async def prepare(self, cache_folder: Path) -> str:  # noqa: ARG002 - the interface's
        """Say how RUN is isolated; let docker find what its user has set up, beside the logins of the job."""
        if self.program != "podman" and self._access.auth_file:
            _link_setup(self._access.auth_file.parent)
        if self._isolation_type:
            return f"{self.program}, isolation {self._isolation_type}: BUILDAH_ISOLATION says so"
        return f"{self.program}, with its own isolation"

    async def list_images(self) -> Listing:
        """List the local store, in one call."""
        output = await self._call("image", "ls", "--no-trunc", "--digests", "--format", _LIST_FORMAT)
        names: dict[tuple[str, str], list[str]] = {}
        for line in output.decode().splitlines():
            image_id, name, digest = line.split("\t")
            known = names.setdefault((_plain_id(image_id), "" if digest == _NONE else digest), [])
            if _NONE not in name:
                try:
                    known.append(parse_reference(name).identity)
                except ReferenceError:
                    continue  # such as a name in capitals: nothing can be built on it
        return Listing.of(
            [StoredImage(image, tuple(known), digest) for (image, digest), known in names.items()]
        )

    async def read_image(self, image: str) -> ImageFacts:
        """Read the config of one image."""
        output = await self._call("image", "inspect", image)
        try:
            inspected = msgspec.json.decode(output, type=tuple[Inspected])[0]
        except msgspec.DecodeError as error:
            raise BuilderError(
                f"{self.program} image inspect printed what cannot be read: {error}"
            ) from error
        return facts_of(_plain_id(inspected.id), inspected.image_config())

    async def pull(self, reference: str, platform: Platform | None = None) -> str:
        """Fetch an image from its registry."""
        wanted = parse_reference(reference)
        name = f"{wanted.name}@{wanted.digest}" if wanted.digest else str(wanted)
        chosen = (f"--platform={platform}",) if platform else ()
        flags = self._registry_flags(wanted.domain)
        await self._call("pull", "--quiet", *flags, *chosen, name, timeout_seconds=_PULL_SECONDS_MAX)
        return _plain_id((await self._call("image", "inspect", "--format={{.Id}}", name)).decode())

    async def build(self, request: BuildRequest, write_log: Callable[[bytes], None]) -> ImageFacts:
        """Build an image; the program names it when it is complete."""
        id_file = request.work / "id"
        try:
            if self.program == "docker" and (request.cache_from or request.cache_to):
                raise BuilderError("docker keeps no caches in registries; use --builder buildx for that")
            if self.program != "podman":
                await self._name_pins(request.pins)
            argv = self._build_argv(request, id_file)
            exit_code = await process.stream(argv, write_log, temporary=request.work)
            if exit_code != 0:
                raise BuildFailedError(f"{self.program} {process.ending(exit_code)}")
            return await self.read_image(_plain_id(id_file.read_text()))
        except (OSError, ProgramError) as error:
            raise BuilderError(str(error)) from error

    async def _name_pins(self, pins: Mapping[str, str]) -> None:
        names: dict[str, str] = {}
        for written, image_id in pins.items():
            with contextlib.suppress(ReferenceError):  # such as one with variables
                reference = parse_reference(written)
                if reference.digest is None:
                    names[reference.identity] = image_id
        for name, image_id in names.items():
            await self._call("tag", image_id, name)

    async def push(self, image_id: str, name: str, work: Path) -> str:
        """Push an image; return the digest that the registry gave it."""
        if self.program == "podman":
            digest_file = work / "digest"
            flags = self._registry_flags(parse_reference(name).domain)
            await self._call(
                *("push", *flags, "--digestfile", str(digest_file), image_id, f"docker://{name}"),
                timeout_seconds=_PULL_SECONDS_MAX,
            )
            return digest_file.read_text().strip()
        # docker pushes nothing but names.
        await self._call("tag", image_id, name)
        output = await self._call("push", name, timeout_seconds=_PULL_SECONDS_MAX)
        found = _PUSHED_DIGEST.search(output)
        if found is None:
            raise BuilderError(f"docker push {name} did not say which digest the registry gave it")
        return found[1].decode()

    async def remove(self, image_ids: Sequence[str]) -> None:
        """Remove images; the program itself refuses those in use, and goes on with the next."""
        if image_ids:
            await process.run(self._argv("image", "rm", *image_ids), timeout_seconds=600.0)

    async def tidy(self) -> None:
        """Do nothing: a build leaves nothing behind."""

    async def sweep(self, is_leftover: Callable[[str], bool]) -> int:  # noqa: ARG002 - the interface's
        """Do nothing: neither program tells the working containers of a build from those of others."""
        return 0

    def _build_argv(self, request: BuildRequest, id_file: Path) -> list[str]:
        # Labels are given before the layers are known, so the base is named only where there is no choice.
        labels = {**request.labels, **base_labels(request.bases if len(request.bases) == 1 else (), None)}
        own: list[str] = []
        if self.program == "podman":
            own = [
                *(("--isolation", self._isolation_type) if self._isolation_type else ()),
                *("--format", "docker" if request.docker_format else "oci"),
                *("--timestamp", "0"),
                *(
                    "--identity-label=false",
                    *caching_flags(request, self._access),
                    *limit_flags(),
                    "--force-rm",
                    "--pull=never",
                ),
                *(
                    f"--build-context={name}=container-image://{image}"
                    for name, image in request.pins.items()
                ),
                *(f"--annotation={name}={value}" for name, value in oci_annotations(labels).items()),
                *(("--ignorefile", str(request.ignore_file)) if request.ignore_file else ()),
            ]
        elif self.program == "buildx":
            own = [
                # An attestation carries times, so that no two builds would have the same digest.
                *("--provenance=false", "--sbom=false"),
                "--build-arg=SOURCE_DATE_EPOCH=0",
                "--output=type=docker,rewrite-timestamp=true",
                *(f"--cache-from=type=registry,ref={cache}" for cache in request.cache_from),
                *(f"--cache-to=type=registry,mode=max,ref={cache}" for cache in request.cache_to),
            ]
        return [
            *self._argv("build"),
            *own,
            *target_flags(request),
            *(f"--label={name}={value}" for name, value in labels.items()),
            *(f"--build-arg={name}={value}" for name, value in request.build_args.items()),
            *(f"--tag={name}" for name in request.names),
            *("--iidfile", str(id_file)),
            *("--file", str(request.containerfile)),
            str(request.context),
        ]

    def _argv(self, *arguments: str) -> list[str]:
        """Begin a command line: docker is told its logins by a folder, buildx is a part of it."""
        if self.program == "podman":
            return ["podman", *arguments]
        logins = ["--config", str(self._access.auth_file.parent)] if self._access.auth_file else []
        own = ["buildx"] if self.program == "buildx" and arguments[0] == "build" else []
        return ["docker", *logins, *own, *arguments]

    def _registry_flags(self, host: str) -> tuple[str, ...]:
        return registry_flags(self._access, host) if self.program == "podman" else ()

    async def _call(self, *arguments: str, timeout_seconds: float = 120.0) -> bytes:
        try:
            completed = await process.run(self._argv(*arguments), timeout_seconds=timeout_seconds)
            return completed.check().output
        except ProgramError as error:
            raise BuilderError(str(error)) from error


def _link_setup(folder: Path) -> None:
    """Put what docker's user has set up into another folder of docker's configuration."""
    usual = Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker")
    for name in _SETUP:
        if (usual / name).is_dir():
            (folder / name).symlink_to(usual.resolve() / name)


def _plain_id(text: str) -> str:
    return text.strip().removeprefix("sha256:")
