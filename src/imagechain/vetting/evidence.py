"""What an image says of itself: its clocks, its version, its base, its signatures. Pure.

Labels are inherited from base to child, so what a label says of a base may be true of an ancestor; its moves
have to be followed all the same.
"""

from datetime import UTC, datetime

import msgspec

from imagechain.refs import ImageConfig, ReferenceError, parse_reference
from imagechain.registry import IndexEntry, RemoteImage
from imagechain.vetting.distribution import Distribution, Snapshot

#: Image-spec, `annotations.md`.
_OCI = "org.opencontainers.image."
_INPUTS_LABEL = "dev.imagechain.inputs"
#: Suffixes of the tags in which cosign keeps signatures and attestations where a registry has no referrers.
COSIGN_SUFFIXES = (".sig", ".att")


class NamedBase(msgspec.Struct, frozen=True):
    """What an image is built from, as it says itself."""

    #: The reference, normalised.
    ref: str
    #: Of an index or of a manifest; empty: it does not say.
    digest: str
    #: Where it says so.
    where: str


def clocks_of(image: RemoteImage, snapshot: Snapshot, modified_at: float | None) -> dict[str, float]:
    """Collect what is said of the time at which an image was made; nothing is judged here."""
    clocks: dict[str, float] = {}
    if modified_at is not None:
        clocks["last-modified"] = modified_at
    annotated = read_time(image.annotations.get(f"{_OCI}created", ""))
    if annotated is not None:
        clocks["annotation-created"] = annotated
    created = read_time(image.config.created or "")
    if created is not None:
        clocks["config-created"] = created
    # In an image with layers of its own it is the age of its base.
    if snapshot.archive_at is not None and len(image.diff_ids) == 1:
        clocks["history-snapshot"] = snapshot.archive_at
    return clocks


def read_time(text: str) -> float | None:
    """Read a time of RFC 3339; None where it is none."""
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()


def version_of(image: RemoteImage) -> str:
    """Tell what an image calls its version; labels are left out, for they may be its base's."""
    return image.annotations.get(f"{_OCI}version", "")


def named_base(image: RemoteImage) -> NamedBase | None:
    """Tell what an image says that it is built from."""
    for where, texts in (("its annotations", image.annotations), ("its labels", image.labels)):
        base = _base(texts.get(f"{_OCI}base.name", ""), texts.get(f"{_OCI}base.digest", ""), where)
        if base is not None:
            return base
    try:
        inputs = msgspec.json.decode(image.labels.get(_INPUTS_LABEL, "{}"), type=dict[str, dict[str, str]])
    except msgspec.DecodeError:
        return None
    if len(inputs) != 1:
        return None
    [(name, record)] = inputs.items()
    return _base(name, record.get("digest", ""), f"its label {_INPUTS_LABEL}")


def _base(name: str, digest: str, where: str) -> NamedBase | None:
    try:
        return NamedBase(parse_reference(name).identity, digest, where) if name else None
    except ReferenceError:
        return None


def likely_bases(found: Distribution | None) -> tuple[str, ...]:
    """Name the official images of a distribution's release, to compare layers with."""
    if found is None:
        return ()
    tag = found.codename or found.version
    if not tag:
        return ()
    names = (
        (f"{found.id}:{tag}", f"{found.id}:{tag}-slim") if found.id == "debian" else (f"{found.id}:{tag}",)
    )
    try:
        return tuple(parse_reference(name).identity for name in names)
    except ReferenceError:
        return ()


def kind_of(attestation: IndexEntry) -> str:
    """Name the kind of what BuildKit put beside an image."""
    return (attestation.annotations or {}).get("vnd.docker.reference.type", "attestation")


def is_built_on(image: ImageConfig, base: ImageConfig) -> bool:
    """Tell whether the lowest layers of an image are all those of another, and not all it has."""
    lower = base.diff_ids
    return 0 < len(lower) < len(image.diff_ids) and image.diff_ids[: len(lower)] == lower
