"""Write an image's labels, annotations and time into its config and manifest, without touching a layer. Pure.

A builder with fixed times gives an image the time of the epoch, and lets it inherit what its base says of
itself. Config and manifest are edited as raw JSON here, because fields that imagechain does not know must
survive. Shapes: OCI image-spec `config.md` and `manifest.md`; Docker's are the same for what is edited.
"""

import hashlib
import json
import re
from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

import msgspec

#: While an image is not complete, it carries this label with the folder of its build.
BUILDING_LABEL = "dev.imagechain.building"
_DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
#: What buildah writes into the history for the files that COPY takes.
_SOURCE_HASH = re.compile(r"\b(file|dir|multi):[0-9a-f]{64}\b")
#: What Docker's format keeps of the container that an image was made in: random, and of no use to anybody.
_DOCKER_REMNANTS = ("container", "container_config", "docker_version")


class Rewritten(msgspec.Struct, frozen=True):
    """The new blobs of an image, and its new id."""

    config: bytes
    manifest: bytes
    image_id: str


def rewrite(
    config: str,
    manifest: str,
    *,
    labels: Mapping[str, str],
    annotations: Mapping[str, str],
    not_inherited: Collection[tuple[str, str]],
    created: int | None,
) -> Rewritten:
    """Give an image its labels, annotations and time; drop what it only inherited and what is random.

    Args:
        config: The image config blob.
        manifest: The manifest blob.
        labels: Labels to set.
        annotations: All annotations that the manifest is to have.
        not_inherited: Labels (name and value) in which a base speaks of itself, true only of it.
        created: Time of the image in Unix seconds; None leaves it.
    """
    image: dict[str, Any] = json.loads(config)
    for remnant in _DOCKER_REMNANTS:
        image.pop(remnant, None)
    run: dict[str, Any] = image.setdefault("config", {})
    for field in ("Hostname", "Image"):
        if field in run:
            run[field] = ""
    kept = {
        name: value
        for name, value in (run.get("Labels") or {}).items()
        if name != BUILDING_LABEL and (name, value) not in not_inherited
    }
    run["Labels"] = dict(sorted({**kept, **labels}.items()))
    for step in image.get("history") or ():
        if BUILDING_LABEL in step.get("created_by", ""):
            step["created_by"] = "imagechain"
            # It names the step before by how it came here: from a cache by another name than built.
            step.pop("comment", None)
        elif "created_by" in step:
            # Hashed with the owner of the checkout, so that no two users would make the same image.
            step["created_by"] = _SOURCE_HASH.sub(r"\1", step["created_by"])
    if created is not None:
        image["created"] = datetime.fromtimestamp(created, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    new_config = _encode(image)
    digest = hashlib.sha256(new_config).hexdigest()

    outer: dict[str, Any] = json.loads(manifest)
    outer["config"] = {**outer["config"], "digest": f"sha256:{digest}", "size": len(new_config)}
    outer.pop("annotations", None)
    if annotations and outer.get("mediaType") != _DOCKER_MANIFEST:
        outer["annotations"] = dict(sorted(annotations.items()))
    return Rewritten(new_config, _encode(outer), digest)


def _encode(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode()
