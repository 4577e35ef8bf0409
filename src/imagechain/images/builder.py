"""What imagechain asks of a builder of images, whichever program it is; the values that it speaks in."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from imagechain.refs import ImageConfig, Platform, content_key, parse_reference
from imagechain.refs.reference import ReferenceError

#: Labels of imagechain: what an image was built from, and the hash of the files that it was built from.
INPUTS_LABEL = "dev.imagechain.inputs"
RECIPE_LABEL = "dev.imagechain.recipe"


class BuilderError(Exception):
    """An image could not be listed, read, pulled, built or pushed; the message says why and what to do."""


class BuildFailedError(BuilderError):
    """The build itself failed; its log says why."""


class InputRecord(msgspec.Struct, frozen=True):
    """One image that a build read, as its label keeps it."""

    #: Manifest digest, or the image id where there is none.
    digest: str
    content: str


class ImageFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What is read of one image. An image id is the hash of its config, so facts of an id never change."""

    id: str
    content: str
    labels: Mapping[str, str]
    diff_ids: tuple[str, ...]
    #: Instructions that run in the build of each child.
    on_build: tuple[str, ...] = ()
    #: It has a health check, a shell or triggers, which only Docker's format can hold.
    docker_only: bool = False
    #: What it is for; empty where it does not say.
    architecture: str = ""

    @property
    def recipe(self) -> str | None:
        """The hash of what its build read, if it says so."""
        return self.labels.get(RECIPE_LABEL)

    @property
    def inputs(self) -> Mapping[str, InputRecord] | None:
        """The images it was built from, by reference; None where it carries no (readable) record."""
        label = self.labels.get(INPUTS_LABEL)
        if label is None:
            return None
        try:
            return msgspec.json.decode(label, type=dict[str, InputRecord])
        except msgspec.DecodeError:
            return None


class StoredImage(msgspec.Struct, frozen=True):
    """One image of the local store, as a listing tells it."""

    id: str
    names: tuple[str, ...]
    #: Manifest digest; empty where the store has none.
    digest: str = ""


class Listing(msgspec.Struct, frozen=True):
    """All images of the local store at one moment."""

    images: tuple[StoredImage, ...]
    by_name: Mapping[str, StoredImage]

    @classmethod
    def of(cls, images: Sequence[StoredImage]) -> "Listing":
        """Index images by their names."""
        return cls(tuple(images), {name: image for image in images for name in image.names})

    def find(self, reference: str) -> StoredImage | None:
        """Find the image that a normalised reference names; a digest in it decides."""
        try:
            wanted = parse_reference(reference)
        except ReferenceError:
            return None
        if wanted.digest is None:
            return self.by_name.get(wanted.identity)
        named = self.by_name.get(str(wanted)) or self.by_name.get(f"{wanted.name}@{wanted.digest}")
        if named is not None:
            return named
        return next((image for image in self.images if image.digest == wanted.digest), None)


class Base(msgspec.Struct, frozen=True, kw_only=True):
    """An image that a stage of the build begins with."""

    #: The normalised reference.
    name: str
    #: Digest that the reference has in its registry; None where no registry has it.
    digest: str | None
    facts: ImageFacts


class BuildRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One image to build."""

    #: References that it gets when it is complete, all at once; none where its folder cannot be a name.
    names: tuple[str, ...]
    #: The Containerfile, as the builder must see it.
    containerfile: Path
    context: Path
    ignore_file: Path | None
    build_args: Mapping[str, str]
    #: Reference as it may be written in the Containerfile -> image id that it stands for.
    pins: Mapping[str, str]
    labels: Mapping[str, str]
    #: Images that stages begin with; the image's own base is the one whose layers it begins with.
    bases: tuple[Base, ...]
    #: Time of the image, Unix seconds; None: the epoch.
    created: int | None
    docker_format: bool
    #: An own empty folder for what the build needs besides the context.
    work: Path
    #: Stage to build; None: the last one.
    target: str | None = None
    #: None: what this machine is.
    platform: Platform | None = None
    #: Files for `RUN --mount=type=secret`, as builders take them: `id=NAME,src=FILE`.
    secrets: tuple[str, ...] = ()
    #: Repositories where layers of builds are looked for, and put to.
    cache_from: tuple[str, ...] = ()
    cache_to: tuple[str, ...] = ()


class RegistryAccess(msgspec.Struct, frozen=True):
    """How a builder gets at registries, where its own configuration does not say."""

    #: Logins, instead of the usual places.
    auth_file: Path | None = None
    #: Hosts that are spoken to without TLS.
    insecure_hosts: frozenset[str] = frozenset()


class Builder(Protocol):
    """A program that builds images into a local store."""

    #: Its name, for people.
    program: str

    async def prepare(self, cache_folder: Path) -> str:
        """Get ready to build; say how RUN is isolated and why so, in a line for people."""
        ...

    async def list_images(self) -> Listing:
        """List the local store."""
        ...

    async def read_image(self, image: str) -> ImageFacts:
        """Read one image of the local store, by its id or by a normalised reference."""
        ...

    async def pull(self, reference: str, platform: Platform | None = None) -> str:
        """Fetch an image into the local store under its own name, if it is not there; return its id.

        Without a platform it is that of this machine, or whatever is there under a digest.
        """
        ...

    async def build(self, request: BuildRequest, write_log: Callable[[bytes], None]) -> ImageFacts:
        """Build an image and name it; nothing is named before it is complete."""
        ...

    async def push(self, image_id: str, name: str, work: Path) -> str:
        """Push an image under a name to the registry of that name; return the digest it has there."""
        ...

    async def remove(self, image_ids: Sequence[str]) -> None:
        """Remove nameless images, unless something uses them."""
        ...

    async def tidy(self) -> None:
        """Remove what its own builds that are complete have no use for any more."""
        ...

    async def sweep(self, is_leftover: Callable[[str], bool]) -> int:
        """Remove what builds left behind whose `BuildRequest.work` is a leftover; return how many things."""
        ...


def facts_of(image_id: str, config: ImageConfig) -> ImageFacts:
    """Take from an image config what imagechain keeps of it."""
    run = config.config
    return ImageFacts(
        id=image_id,
        content=content_key(config),
        labels=config.labels,
        diff_ids=config.diff_ids,
        on_build=config.on_build,
        docker_only=bool(run.on_build or run.shell or run.healthcheck),
        architecture=config.architecture,
    )


def spellings(reference: str) -> tuple[str, ...]:
    """All the ways in which a Containerfile may write a normalised reference."""
    parsed = parse_reference(reference)
    names = [parsed.name]
    if parsed.domain == "docker.io":
        names += [f"index.docker.io/{parsed.path}", parsed.path]
        if (official := parsed.path.removeprefix("library/")) != parsed.path and "/" not in official:
            names += [f"docker.io/{official}", f"index.docker.io/{official}", official]
    suffix = str(parsed).removeprefix(parsed.name)
    suffixes = [suffix, ""] if suffix == ":latest" else [suffix]
    return tuple(name + suffix for name in names for suffix in suffixes)
