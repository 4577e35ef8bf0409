"""In what two images differ: files of layers, config, annotations. Where they come from is not known here."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from imagechain.images.layers import Entry, What, read_layer

#: Characters of a value that are shown.
_VALUE_CHARACTERS_MAX = 120


class UnpackedImage(msgspec.Struct, frozen=True, kw_only=True):
    """An image whose blobs are files here."""

    #: As it was asked for.
    name: str
    #: Digest of its manifest, empty where it has none.
    digest: str
    config: dict[str, Any]
    annotations: Mapping[str, str]
    #: Files of its layers, the lowest first, with the digests of what is in them uncompressed.
    layers: tuple[tuple[Path, str], ...]


class FileDifference(msgspec.Struct, frozen=True, kw_only=True):
    """One file in which two images differ."""

    #: Number of the layer, from 1; the first of those compared, where their numbers differ.
    layer: int
    path: str
    change: Literal["added", "removed", "changed"]
    what: tuple[What, ...] = ()


class ValueDifference(msgspec.Struct, frozen=True, kw_only=True):
    """One value in which two configs differ; None where one has none."""

    where: str
    a: str | None
    b: str | None


class ImageDifference(msgspec.Struct, frozen=True, kw_only=True):
    """In what two images differ."""

    a: str
    b: str
    #: Whether nothing at all differs.
    same: bool
    files: tuple[FileDifference, ...]
    values: tuple[ValueDifference, ...]


def compare(a: UnpackedImage, b: UnpackedImage) -> ImageDifference:
    """Compare two images.

    Raises:
        LayerError: a layer cannot be read.
    """
    files = tuple(_compare_layers(a.layers, b.layers))
    values = (
        *_compare_values("config", a.config, b.config),
        *_compare_values("annotations", dict(a.annotations), dict(b.annotations)),
    )
    same = not files and not values
    if same and a.digest and b.digest and a.digest != b.digest:
        # The same content, compressed or written down in another way.
        values = (ValueDifference(where="digest", a=a.digest, b=b.digest),)
        same = False
    return ImageDifference(a=a.name, b=b.name, same=same, files=files, values=values)


def _compare_layers(a: Sequence[tuple[Path, str]], b: Sequence[tuple[Path, str]]) -> Iterator[FileDifference]:
    if len(a) == len(b):
        for number, ((file_a, diff_a), (file_b, diff_b)) in enumerate(zip(a, b, strict=True), 1):
            if diff_a != diff_b:
                yield from _compare_entries(number, read_layer(file_a), read_layer(file_b))
        return
    same = 0
    while same < min(len(a), len(b)) and a[same][1] == b[same][1]:
        same += 1
    # Which layer corresponds to which is not known, so all above the common ones count as one.
    yield from _compare_entries(same + 1, _merged(a[same:]), _merged(b[same:]))


def _merged(layers: Sequence[tuple[Path, str]]) -> dict[str, Entry]:
    entries: dict[str, Entry] = {}
    for file, _ in layers:
        entries |= read_layer(file)
    return entries


def _compare_entries(layer: int, a: Mapping[str, Entry], b: Mapping[str, Entry]) -> Iterator[FileDifference]:
    for path in sorted(a.keys() | b.keys()):
        before, after = a.get(path), b.get(path)
        if before is None:
            yield FileDifference(layer=layer, path=path, change="added")
        elif after is None:
            yield FileDifference(layer=layer, path=path, change="removed")
        elif what := before.differences(after):
            yield FileDifference(layer=layer, path=path, change="changed", what=what)


def _compare_values(where: str, a: object, b: object) -> Iterator[ValueDifference]:
    if a == b:
        return
    if isinstance(a, dict) and isinstance(b, dict):
        for key in sorted(a.keys() | b.keys()):
            yield from _compare_values(f"{where}.{key}", a.get(key), b.get(key))
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for number, (one, other) in enumerate(zip(a, b, strict=True)):
            yield from _compare_values(f"{where}[{number}]", one, other)
    else:
        yield ValueDifference(where=where, a=_shown(a), b=_shown(b))


def _shown(value: object) -> str | None:
    if value is None:
        return None
    text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    return text if len(text) <= _VALUE_CHARACTERS_MAX else f"{text[:_VALUE_CHARACTERS_MAX]}…"
