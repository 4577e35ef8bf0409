"""Assembles the index of an image from its parts, one for each architecture. Pure.

The same parts give the same bytes, whatever order they are named in: builders write them in the order in
which they happen to finish, so that two builds of one commit differ.
"""

from collections.abc import Mapping, Sequence

import msgspec

from imagechain.refs import ImageConfig, Platform, PlatformError, parse_platform
from imagechain.registry import Manifest
from imagechain.registry.manifest import DOCKER_LIST, DOCKER_MANIFEST, OCI_INDEX

#: Labels of the parts that become annotations of the index where all parts have the same.
_PREFIXES = ("org.opencontainers.image.", "dev.imagechain.")
_SOURCE = "org.opencontainers.image.source"


class PartError(Exception):
    """A part is not what it should be; the message names it."""


class Part(msgspec.Struct, frozen=True):
    """The image of one architecture."""

    #: Its reference, for messages.
    name: str
    #: What it should be for.
    platform: Platform
    manifest: Manifest
    config: ImageConfig


class _Platform(msgspec.Struct, frozen=True, omit_defaults=True):
    architecture: str
    os: str
    variant: str = ""


class _Entry(msgspec.Struct, frozen=True, rename="camel"):
    media_type: str
    digest: str
    size: int
    platform: _Platform


class _Index(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    manifests: tuple[_Entry, ...]
    media_type: str
    schema_version: int = msgspec.field(name="schemaVersion")
    annotations: dict[str, str] = {}


def check_parts(parts: Sequence[Part]) -> None:
    """Refuse parts that do not belong together.

    Their commits may differ: what a commit does not touch is not built again, so a part carries the commit
    that it was built for. That it is of this pipeline, its tag says.

    Raises:
        PartError: one is for another platform, or of another repository than the others.
    """
    by_digest: dict[str, str] = {}
    for part in parts:
        if not part.manifest.is_image:
            raise PartError(f"{part.name} is no container image; build it again")
        found = _platform_of(part)
        if found != part.platform:
            raise PartError(f"{part.name} should be for {part.platform}, but is for {found}; build it again")
        digest = part.manifest.descriptor.digest
        if digest in by_digest:
            raise PartError(f"{part.name} and {by_digest[digest]} are one image; build both again")
        by_digest[digest] = part.name
    source = ""
    for part in parts:
        source = source or part.config.labels.get(_SOURCE, "")
        found_source = part.config.labels.get(_SOURCE, "")
        if found_source != source:
            raise PartError(
                f"{part.name} is of the repository {found_source or 'unknown'}, but should be of {source}; "
                "build it again in this pipeline"
            )


def _platform_of(part: Part) -> Platform:
    config = part.config
    try:
        return parse_platform("/".join(filter(None, (config.os, config.architecture, config.variant))))
    except PlatformError as error:
        raise PartError(f"{part.name} does not say what it is for ({error}); build it again") from error


def assemble(parts: Sequence[Part]) -> tuple[bytes, str]:
    """Write the index of these parts; return its bytes and its media type."""
    ordered = sorted(parts, key=lambda part: part.platform)
    entries = tuple(
        _Entry(
            part.manifest.descriptor.media_type,
            part.manifest.descriptor.digest,
            len(part.manifest.raw),
            _Platform(part.platform.architecture, part.platform.os, part.platform.variant),
        )
        for part in ordered
    )
    # A list in Docker's format has Docker's images only, and no annotations.
    is_docker = all(entry.media_type == DOCKER_MANIFEST for entry in entries)
    index = _Index(
        manifests=entries,
        media_type=DOCKER_LIST if is_docker else OCI_INDEX,
        schema_version=2,
        annotations={} if is_docker else common_labels([part.config.labels for part in ordered]),
    )
    return msgspec.json.encode(index, order="deterministic"), index.media_type


def common_labels(labels: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Choose the labels that say something of the whole image: those that all parts have alike."""
    first, *others = labels
    return {
        name: text
        for name, text in sorted(first.items())
        if name.startswith(_PREFIXES) and all(other.get(name) == text for other in others)
    }
