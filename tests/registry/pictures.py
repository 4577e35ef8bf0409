"""Images as the bytes that a registry keeps. Named so that `images` stays the name of the part under test."""

import hashlib
import json
from collections.abc import Mapping, Sequence

import msgspec

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_CONFIG = "application/vnd.oci.image.config.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_CONFIG = "application/vnd.docker.container.image.v1+json"


def sha256(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Stored(msgspec.Struct, frozen=True):
    """A manifest with all that it needs."""

    raw: bytes
    media_type: str
    blobs: tuple[bytes, ...] = ()
    children: tuple["Stored", ...] = ()

    @property
    def digest(self) -> str:
        return sha256(self.raw)


def make_image(
    *,
    os: str = "linux",
    architecture: str = "amd64",
    variant: str = "",
    labels: Mapping[str, str] | None = None,
    layers: Sequence[bytes] = (),
    annotations: Mapping[str, str] | None = None,
    media_type: str = OCI_MANIFEST,
    says_type: bool = True,
    config_type: str = OCI_CONFIG,
    created: str = "2026-01-01T00:00:00Z",
    subject: Stored | None = None,
) -> Stored:
    """Make an image; its bytes are in a form that no JSON library would write again."""
    config = json.dumps(
        {
            "created": created,
            "os": os,
            "architecture": architecture,
            **({"variant": variant} if variant else {}),
            "config": {"Labels": dict(labels or {}), "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [sha256(layer) for layer in layers]},
        },
        indent=3,
    ).encode()
    manifest = {
        "schemaVersion": 2,
        **({"mediaType": media_type} if says_type else {}),
        "config": {"mediaType": config_type, "digest": sha256(config), "size": len(config)},
        "layers": [
            {
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": sha256(layer),
                "size": len(layer),
            }
            for layer in layers
        ],
        **({"annotations": dict(annotations)} if annotations else {}),
    }
    if subject is not None:
        about = {"mediaType": subject.media_type, "digest": subject.digest, "size": len(subject.raw)}
        manifest["subject"] = about
    return Stored(json.dumps(manifest, indent=5).encode() + b"\n", media_type, (config, *layers))


def make_index(
    children: Mapping[str, Stored],
    *,
    annotations: Mapping[str, str] | None = None,
    media_type: str = OCI_INDEX,
    says_type: bool = True,
) -> Stored:
    """Make an index of images by platform (`linux/arm/v7`)."""
    entries = []
    for platform, child in children.items():
        os, architecture, *variant = platform.split("/")
        entries.append(
            {
                "mediaType": child.media_type,
                "digest": child.digest,
                "size": len(child.raw),
                "platform": {
                    "os": os,
                    "architecture": architecture,
                    **({"variant": variant[0]} if variant else {}),
                },
            }
        )
    index = {
        "schemaVersion": 2,
        **({"mediaType": media_type} if says_type else {}),
        "manifests": entries,
        **({"annotations": dict(annotations)} if annotations else {}),
    }
    return Stored(json.dumps(index, indent=5).encode() + b"\n", media_type, children=tuple(children.values()))
