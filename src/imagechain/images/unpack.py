"""Brings the blobs of an image into a folder, to look into them: from the local store, a registry or a file.

NAME, ID                   the local store if it has that, else the registry
docker://NAME              the registry
oci:FOLDER                 an OCI layout
oci-archive:FILE           the same in a tar file
docker-archive:FILE        what `docker save` and `podman save` write
"""

import json
import shutil
import tarfile
from pathlib import Path, PurePosixPath
from typing import Any

from imagechain.images import process
from imagechain.images.builder import Builder, BuilderError
from imagechain.images.diff import UnpackedImage
from imagechain.images.process import ProgramError
from imagechain.refs import Platform, Reference, ReferenceError, parse_reference
from imagechain.registry import Manifest, RegistryClient
from imagechain.registry.manifest import (
    OCI_INDEX,
    Index,
    choose_entry,
    decode_manifest,
    digest_of,
)

#: Largest file that describes an image: manifest, index, config.
_JSON_BYTES_MAX = 16 * 1024 * 1024
_PUSH_SECONDS_MAX = 3600.0
_REGISTRY = "docker://"
#: Names of the local store, which no registry has.
_LOCAL = "localhost"
_REMEDY = (
    "name an image of the local store, docker://NAME, oci:FOLDER, oci-archive:FILE or docker-archive:FILE"
)


class UnpackError(Exception):
    """An image cannot be read; the message says why."""


async def unpack(
    name: str, platform: Platform, folder: Path, *, builder: Builder, client: RegistryClient
) -> UnpackedImage:
    """Bring an image into a folder.

    Args:
        name: Of the image, as the head of this module has it.
        platform: Which of several is meant.
        folder: An own empty folder.
        builder: Whose local store is looked into.
        client: Asks registries.

    Raises:
        UnpackError: there is no such image, or it cannot be read.
        RegistryError: its registry does not answer.
    """
    transport, colon, rest = name.partition(":")
    try:
        if colon and transport == "oci":
            return _read_layout(name, Path(rest), platform)
        if colon and transport in {"oci-archive", "docker-archive"}:
            _extract(Path(rest), folder)
            read = _read_layout if transport == "oci-archive" else _read_docker
            return read(name, folder, platform)
        if not name.startswith(_REGISTRY):
            stored = await _find_stored(name, builder)
            if stored is not None:
                await _save(stored, folder, builder)
                return _read_dir(name, folder)
        reference = parse_reference(name.removeprefix(_REGISTRY))
        if reference.domain == _LOCAL:
            raise UnpackError(
                f"there is no {name} in the local store; `{builder.program} images` lists what is there"
            )
        return await _fetch(name, reference, platform, folder, client)
    except ReferenceError as error:
        raise UnpackError(f"{name}: {error}; {_REMEDY}") from error
    except (OSError, KeyError, IndexError, TypeError, ValueError, tarfile.TarError) as error:
        raise UnpackError(f"{name} cannot be read as an image: {error!r}; {_REMEDY}") from error


async def _find_stored(name: str, builder: Builder) -> str | None:
    """Find an image of the local store, by its id or by its name."""
    listing = await builder.list_images()
    by_id = [image.id for image in listing.images if len(name) >= 12 and image.id.startswith(name)]
    if len(by_id) == 1:
        return by_id[0]
    try:
        found = listing.find(str(parse_reference(name)))
        # A name without a registry is one that was given here.
        found = found or listing.find(str(parse_reference(f"localhost/{name}")))
    except ReferenceError:
        return None
    return found.id if found is not None else None


async def _save(image_id: str, folder: Path, builder: Builder) -> None:
    if builder.program not in {"buildah", "podman"}:
        raise UnpackError(
            f"{builder.program} does not give away its images one by one: save both with `docker save`, and "
            "compare docker-archive:FILE"
        )
    argv = [builder.program, "push", "--quiet", image_id, f"dir:{folder}"]
    try:
        (await process.run(argv, timeout_seconds=_PUSH_SECONDS_MAX)).check()
    except ProgramError as error:
        raise BuilderError(str(error)) from error


async def _fetch(
    name: str, reference: Reference, platform: Platform, folder: Path, client: RegistryClient
) -> UnpackedImage:
    repository = client.direct(reference)
    found = await repository.manifest(reference.digest or reference.tag or "")
    if isinstance(found, Index):
        found = await repository.manifest(_choose(name, found, platform))
    if isinstance(found, Index):
        raise UnpackError(f"{name} is an index in an index; name one image")
    for blob in (found.config, *found.layers):
        with _blob_file(folder, blob.digest).open("wb") as stream:

            async def write(chunk: bytes) -> None:
                stream.write(chunk)

            await repository.stream_blob(blob, write)
    return _unpacked(name, found, folder)


def _choose(name: str, index: Index, platform: Platform) -> str:
    entry = choose_entry(index.entries, platform)
    if entry is None:
        raise UnpackError(f"{name} has no image for {platform}; choose another --platform")
    return entry.digest


def _extract(archive: Path, folder: Path) -> None:
    """Take the files out of an archive, links as what they lead to; nothing leaves the folder.

    `TarFile.extractall` cannot be told so before Python 3.11.4, and Debian 12 has 3.11.2.
    """
    with tarfile.open(archive) as tar:
        for member in tar:
            path = PurePosixPath(member.name)
            if path.is_absolute() or ".." in path.parts:
                raise UnpackError(
                    f"{archive} has a file {member.name!r}, which leads out of it: do not trust it"
                )
            file = None if member.isdir() else tar.extractfile(member)
            if file is not None:
                target = folder / path
                target.parent.mkdir(parents=True, exist_ok=True)
                with target.open("wb") as stream:
                    shutil.copyfileobj(file, stream)


def _read_layout(name: str, folder: Path, platform: Platform) -> UnpackedImage:
    blobs = folder / "blobs" / "sha256"
    raw = _read_json(folder / "index.json")
    media_type = OCI_INDEX
    while True:
        found = decode_manifest(raw, media_type, digest_of(raw))
        if isinstance(found, Manifest):
            return _unpacked(name, found, blobs)
        entry = choose_entry(found.entries, platform) or found.entries[0]
        if len(found.entries) > 1 and choose_entry(found.entries, platform) is None:
            raise UnpackError(f"{name} holds several images, and none is for {platform}; keep one in it")
        raw, media_type = _read_json(_blob_file(blobs, entry.digest)), entry.media_type


def _read_dir(name: str, folder: Path) -> UnpackedImage:
    raw = _read_json(folder / "manifest.json")
    found = decode_manifest(raw, "", digest_of(raw))
    if isinstance(found, Index):
        raise UnpackError(f"{name} is a list of images; name one of them")
    # What the store writes here is not what it would push: it has no digest that would mean anything.
    return _unpacked(name, found, folder, has_digest=False)


def _read_docker(name: str, folder: Path, platform: Platform) -> UnpackedImage:  # noqa: ARG001 - it has but one
    (image,) = json.loads(_read_json(folder / "manifest.json"))
    config: dict[str, Any] = json.loads(_read_json(folder / image["Config"]))
    diff_ids = config["rootfs"]["diff_ids"]
    files = [folder / layer for layer in image["Layers"]]
    return UnpackedImage(
        name=name,
        digest="",
        config=config,
        annotations={},
        layers=tuple(zip(files, diff_ids, strict=True)),
    )


def _unpacked(name: str, manifest: Manifest, folder: Path, *, has_digest: bool = True) -> UnpackedImage:
    config: dict[str, Any] = json.loads(_read_json(_blob_file(folder, manifest.config.digest)))
    files = [_blob_file(folder, layer.digest) for layer in manifest.layers]
    return UnpackedImage(
        name=name,
        digest=manifest.descriptor.digest if has_digest else "",
        config=config,
        annotations=manifest.annotations,
        layers=tuple(zip(files, config["rootfs"]["diff_ids"], strict=True)),
    )


def _blob_file(folder: Path, digest: str) -> Path:
    return folder / digest.partition(":")[2]


def _read_json(file: Path) -> bytes:
    with file.open("rb") as stream:
        data = stream.read(_JSON_BYTES_MAX + 1)
    if len(data) > _JSON_BYTES_MAX:
        raise UnpackError(f"{file} has more than {_JSON_BYTES_MAX} bytes")
    return data
