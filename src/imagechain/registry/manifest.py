"""Manifests and indexes as registries store them. Pure.

Sources: OCI image-spec (`manifest.md`, `image-index.md`, `descriptor.md`), Docker's manifest v2, schema 2.
The bytes are kept as they came: a digest is of bytes, and no JSON library writes the same ones again.
"""

import hashlib
import re

import msgspec

from imagechain.refs import ImageConfig, Platform, PlatformError, parse_platform

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
#: A registry that is not told all four answers 404, or converts what it has into another digest.
ACCEPT = ", ".join((OCI_INDEX, DOCKER_LIST, OCI_MANIFEST, DOCKER_MANIFEST))

_INDEX_TYPES = frozenset({OCI_INDEX, DOCKER_LIST})
_MANIFEST_TYPES = frozenset({OCI_MANIFEST, DOCKER_MANIFEST})
_CONFIG_TYPES = frozenset(
    {"application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json"}
)
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}")
#: Variants in which each runs what was built for those after it (containerd/platforms, `compare.go`).
_VARIANTS = {"arm": ("v8", "v7", "v6", "v5"), "amd64": ("v4", "v3", "v2", "")}
_ARM64_VARIANT = re.compile(r"v(\d)(?:\.\d)?")


class Descriptor(msgspec.Struct, frozen=True, kw_only=True):
    """What a registry calls something by."""

    media_type: str = msgspec.field(default="", name="mediaType")
    digest: str
    #: Bytes; None where the registry did not say.
    size: int | None = None
    annotations: dict[str, str] | None = None


class _WirePlatform(msgspec.Struct, frozen=True):
    os: str = ""
    architecture: str = ""
    variant: str = ""


class IndexEntry(Descriptor, frozen=True, kw_only=True):
    """One manifest of an index."""

    wire_platform: _WirePlatform | None = msgspec.field(default=None, name="platform")
    artifact_type: str = msgspec.field(default="", name="artifactType")

    @property
    def platform(self) -> Platform | None:
        """The platform, normalised; None for what is built for none, such as an attestation."""
        wire = self.wire_platform
        if wire is None or not wire.os or not wire.architecture:
            return None
        try:
            return parse_platform("/".join(filter(None, (wire.os, wire.architecture, wire.variant))))
        except PlatformError:
            return None


class _WireManifest(msgspec.Struct, frozen=True):
    media_type: str = msgspec.field(default="", name="mediaType")
    config: Descriptor | None = None
    layers: tuple[Descriptor, ...] | None = None
    manifests: tuple[IndexEntry, ...] | None = None
    annotations: dict[str, str] | None = None


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The manifest of one image for one platform."""

    descriptor: Descriptor
    raw: bytes
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: dict[str, str]

    @property
    def is_image(self) -> bool:
        """Whether it is of a container image; charts, signatures and other artifacts have the same form."""
        return self.config.media_type in _CONFIG_TYPES


class Index(msgspec.Struct, frozen=True, kw_only=True):
    """A list of manifests, one for each platform."""

    descriptor: Descriptor
    raw: bytes
    entries: tuple[IndexEntry, ...]
    annotations: dict[str, str]


class RemoteImage(msgspec.Struct, frozen=True, kw_only=True):
    """An image for one platform, as it is in a registry."""

    #: What the tag names: the digest of an index or, where there is none, of the manifest.
    index_digest: str
    #: The digest of the platform's manifest.
    digest: str
    config: ImageConfig
    #: What a running container can notice of it, hashed (`refs.content_key`).
    content_key: str
    #: Of the index, of its entry and of the manifest; the last of them wins.
    annotations: dict[str, str]
    config_digest: str
    #: The lowest first.
    layers: tuple[Descriptor, ...]
    #: Attestations that BuildKit put beside it into the index.
    attestations: tuple[IndexEntry, ...] = ()

    @property
    def labels(self) -> dict[str, str]:
        """The image's labels."""
        return self.config.labels

    @property
    def diff_ids(self) -> tuple[str, ...]:
        """Digests of the uncompressed layers, the lowest first."""
        return self.config.diff_ids


class ManifestError(ValueError):
    """Bytes that are no manifest; the message says why."""


_decoder = msgspec.json.Decoder(_WireManifest)


def is_digest(text: str) -> bool:
    """Tell whether a text is a digest of an algorithm that registries use."""
    return _DIGEST.fullmatch(text) is not None


def referrers_tag(digest: str) -> str:
    """Name the tag that lists what refers to a digest, in registries without the API of referrers."""
    return digest.replace(":", "-", 1)


def digest_of(data: bytes, like: str = "sha256:") -> str:
    """Hash bytes, with the algorithm of another digest."""
    algorithm = like.partition(":")[0]
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def media_type_of(content_type: str) -> str:
    """Take the parameters off a `Content-Type`."""
    return content_type.partition(";")[0].strip().lower()


def decode_manifest(raw: bytes, content_type: str, digest: str) -> Manifest | Index:
    """Decode what a registry sent under a digest that was checked.

    OCI manifests may leave out `mediaType`; then the registry's `Content-Type` says it, or else the fields.
    Bytes that could be read both as manifest and as index are refused (CVE-2021-41190).

    Raises:
        ManifestError: it is no manifest that can be read.
    """
    try:
        wire = _decoder.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ManifestError(f"not a manifest: {error}") from error
    media_type = _media_type(wire, media_type_of(content_type))
    descriptor = Descriptor(media_type=media_type, digest=digest, size=len(raw))
    annotations = wire.annotations or {}
    if media_type in _INDEX_TYPES and wire.manifests is not None:
        _check_digests(wire.manifests)
        return Index(descriptor=descriptor, raw=raw, entries=wire.manifests, annotations=annotations)
    if media_type in _MANIFEST_TYPES and wire.config is not None:
        layers = wire.layers or ()
        _check_digests((wire.config, *layers))
        return Manifest(
            descriptor=descriptor, raw=raw, config=wire.config, layers=layers, annotations=annotations
        )
    raise ManifestError(f"its fields are not those of its media type {media_type!r}")


def _media_type(wire: _WireManifest, content_type: str) -> str:
    if wire.manifests is not None and (wire.config is not None or wire.layers is not None):
        raise ManifestError("it is both a manifest and an index")
    known = _INDEX_TYPES | _MANIFEST_TYPES
    if wire.media_type:
        if content_type in known and content_type != wire.media_type:
            raise ManifestError(f"it says to be {wire.media_type!r}, the registry says {content_type!r}")
        media_type = wire.media_type
    elif content_type in known:
        media_type = content_type
    else:
        media_type = OCI_INDEX if wire.manifests is not None else OCI_MANIFEST
    if media_type not in known:
        raise ManifestError(f"its media type {media_type!r} is not known")
    return media_type


def _check_digests(descriptors: tuple[Descriptor, ...]) -> None:
    for descriptor in descriptors:
        if not is_digest(descriptor.digest):
            raise ManifestError(f"{descriptor.digest!r} in it is not a digest")


def choose_entry(entries: tuple[IndexEntry, ...], platform: Platform) -> IndexEntry | None:
    """Choose the manifest that a host of this platform runs: of the nearest variant, the first."""
    offered = [(entry.platform, entry) for entry in entries]
    for wanted in _runnable(parse_platform(str(platform))):
        for found, entry in offered:
            if found == wanted:
                return entry
    return None


def runs(host: Platform, built_for: Platform) -> bool:
    """Tell whether a host of one platform runs what was built for another."""
    return parse_platform(str(built_for)) in _runnable(parse_platform(str(host)))


def attestations_of(entries: tuple[IndexEntry, ...], digest: str) -> tuple[IndexEntry, ...]:
    """List the attestations that an index holds for a manifest (BuildKit's annotations)."""
    return tuple(
        entry for entry in entries if (entry.annotations or {}).get("vnd.docker.reference.digest") == digest
    )


def _runnable(platform: Platform) -> tuple[Platform, ...]:
    """List the platforms whose programs a platform runs, the best first."""
    architecture, variant = platform.architecture, platform.variant
    variants: tuple[str, ...] = (variant,)
    if architecture in _VARIANTS and variant in _VARIANTS[architecture]:
        order = _VARIANTS[architecture]
        variants = order[order.index(variant) :]
    elif architecture == "arm64" and (match := _ARM64_VARIANT.fullmatch(variant)):
        variants = (variant, *(f"v{number}" for number in range(int(match[1]), 8, -1)), "")
    return tuple(Platform(platform.os, architecture, variant) for variant in dict.fromkeys(variants))
