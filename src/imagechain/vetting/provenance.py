"""When an image was built, as its provenance says that BuildKit keeps beside it. Pure.

Formats: BuildKit's `attestation-storage.md`, in-toto statements, SLSA provenance 0.2 and 1.
"""

import msgspec

from imagechain.registry import Descriptor, Manifest

#: With `mode=max` it tells every step of the build.
PROVENANCE_BYTES_MAX = 8 * 1024 * 1024
_PREDICATE_TYPE = "in-toto.io/predicate-type"
_PROVENANCE = "https://slsa.dev/provenance/"


class _Subject(msgspec.Struct, frozen=True):
    digest: dict[str, str] = {}


class _Metadata(msgspec.Struct, frozen=True, rename="camel"):
    #: Of 0.2.
    build_finished_on: str | None = None
    #: Of 1.
    finished_on: str | None = None


class _RunDetails(msgspec.Struct, frozen=True):
    metadata: _Metadata | None = None


class _Predicate(msgspec.Struct, frozen=True, rename="camel"):
    metadata: _Metadata | None = None
    run_details: _RunDetails | None = None


class _Statement(msgspec.Struct, frozen=True):
    subject: tuple[_Subject, ...] = ()
    predicate: _Predicate = _Predicate()


_decoder = msgspec.json.Decoder(_Statement)


def provenance_of(attestation: Manifest) -> Descriptor | None:
    """Find the provenance among what an attestation manifest holds; lists of packages are there too."""
    for layer in attestation.layers:
        if (layer.annotations or {}).get(_PREDICATE_TYPE, "").startswith(_PROVENANCE):
            return layer
    return None


def finished_on(statement: bytes, digest: str) -> str:
    """Tell when a build ended, as it is written there; empty: that is not told, or of something else.

    Args:
        statement: the provenance.
        digest: of the manifest that it has to be about.
    """
    try:
        read = _decoder.decode(statement)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""
    algorithm, _, value = digest.partition(":")
    if not any(subject.digest.get(algorithm) == value for subject in read.subject):
        return ""
    details = read.predicate.run_details
    for metadata in (read.predicate.metadata, details.metadata if details is not None else None):
        if metadata is not None and (written := metadata.build_finished_on or metadata.finished_on):
            return written
    return ""
