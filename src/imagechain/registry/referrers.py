"""The list of what refers to a manifest, kept as an index under a tag. Pure.

Registries without the API of referrers keep no such list; then who pushes a signature has to keep it
(distribution-spec 1.1, "Referrers Tag Schema").
"""

import msgspec

from imagechain.registry.manifest import OCI_INDEX, Descriptor


class _Referrer(msgspec.Struct, frozen=True):
    subject: Descriptor | None = None
    artifact_type: str = msgspec.field(default="", name="artifactType")
    config: Descriptor | None = None
    annotations: dict[str, str] | None = None


class _Entry(msgspec.Struct, frozen=True, omit_defaults=True, rename="camel", kw_only=True):
    media_type: str
    digest: str
    size: int
    artifact_type: str = ""
    annotations: dict[str, str] = {}


class _Known(msgspec.Struct, frozen=True):
    digest: str


class _List(msgspec.Struct, frozen=True, rename="camel"):
    manifests: tuple[msgspec.Raw, ...] = ()
    schema_version: int = 2
    media_type: str = OCI_INDEX


_referrer_decoder = msgspec.json.Decoder(_Referrer)
_list_decoder = msgspec.json.Decoder(_List)
_known_decoder = msgspec.json.Decoder(_Known)


def subject_of(raw: bytes) -> str:
    """Tell the digest of what a manifest is about; empty: it is about nothing."""
    subject = _referrer_decoder.decode(raw).subject
    return subject.digest if subject is not None else ""


def add_referrer(listed: bytes | None, raw: bytes, descriptor: Descriptor) -> bytes | None:
    """Add a manifest to the list of what refers to its subject; None: it is in it.

    Args:
        listed: the index as it is; None: there is none yet.
        raw: the manifest.
        descriptor: what the registry calls it by.
    """
    entries = _list_decoder.decode(listed).manifests if listed is not None else ()
    if any(_known_decoder.decode(entry).digest == descriptor.digest for entry in entries):
        return None
    manifest = _referrer_decoder.decode(raw)
    entry = _Entry(
        media_type=descriptor.media_type,
        digest=descriptor.digest,
        size=len(raw),
        artifact_type=manifest.artifact_type or (manifest.config.media_type if manifest.config else ""),
        annotations=manifest.annotations or {},
    )
    return msgspec.json.encode(_List(manifests=(*entries, msgspec.Raw(msgspec.json.encode(entry)))))
