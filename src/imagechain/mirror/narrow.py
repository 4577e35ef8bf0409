"""Leaves out platforms of an index. Pure.

An index with fewer entries has another digest than the source's, so a HEAD alone could not tell whether it is
up to date: the digest of the source is noted in it.
"""

from collections.abc import Sequence

import msgspec

from imagechain.refs import Platform
from imagechain.registry import Descriptor, Index, Manifest
from imagechain.registry.manifest import choose_entry, digest_of

_SOURCE = "dev.imagechain.mirror.source-digest"
_PLATFORMS = "dev.imagechain.mirror.platforms"


class _Digest(msgspec.Struct, frozen=True):
    digest: str


_entries_decoder = msgspec.json.Decoder(tuple[msgspec.Raw, ...])


def narrow(index: Index, platforms: Sequence[Platform]) -> Index | None:
    """Make the index of some platforms only; None: it has none of them.

    The entries stay as they are written. The same index and platforms give the same bytes.
    """
    chosen = {entry.digest for entry in (choose_entry(index.entries, one) for one in platforms) if entry}
    if not chosen:
        return None
    fields = msgspec.json.decode(index.raw, type=dict[str, msgspec.Raw])
    entries = _entries_decoder.decode(fields["manifests"])
    kept = [entry for entry in entries if msgspec.json.decode(entry, type=_Digest).digest in chosen]
    annotations = {**index.annotations, **_notes(index.descriptor.digest, platforms)}
    # Docker's lists have no annotations, but registries and readers leave alone what they do not know.
    fields |= {
        "manifests": msgspec.Raw(msgspec.json.encode(kept)),
        "annotations": msgspec.Raw(msgspec.json.encode(annotations, order="deterministic")),
    }
    raw = msgspec.json.encode(fields, order="deterministic")
    media_type = index.descriptor.media_type
    return Index(
        descriptor=Descriptor(media_type=media_type, digest=digest_of(raw), size=len(raw)),
        raw=raw,
        entries=tuple(entry for entry in index.entries if entry.digest in chosen),
        annotations=annotations,
    )


def is_narrowed_from(found: Manifest | Index, source_digest: str, platforms: Sequence[Platform]) -> bool:
    """Tell whether an index was made by `narrow` from this source and for these platforms."""
    return _notes(source_digest, platforms).items() <= found.annotations.items()


def _notes(source_digest: str, platforms: Sequence[Platform]) -> dict[str, str]:
    return {_SOURCE: source_digest, _PLATFORMS: " ".join(sorted(map(str, platforms)))}
