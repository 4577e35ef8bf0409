"""Reading manifests, and choosing among the platforms of an index."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagechain.refs import parse_platform
from imagechain.registry.manifest import (
    Index,
    IndexEntry,
    ManifestError,
    choose_entry,
    decode_manifest,
    digest_of,
    is_digest,
)
from registry.pictures import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, make_image, make_index


def choose(wanted: str, *offered: str) -> str | None:
    """Choose among platforms; give the one chosen as it was written."""
    index = make_index({platform: make_image(labels={"of": platform}) for platform in offered})
    found = decode_manifest(index.raw, OCI_INDEX, index.digest)
    assert isinstance(found, Index)
    entry = choose_entry(found.entries, parse_platform(wanted))
    return None if entry is None else offered[found.entries.index(entry)]


@pytest.mark.parametrize(
    ("wanted", "offered", "chosen"),
    [
        ("linux/amd64", ["linux/arm64", "linux/amd64"], "linux/amd64"),
        ("linux/amd64", ["linux/arm64"], None),
        ("linux/amd64", ["windows/amd64"], None),
        ("linux/amd64", ["linux/amd64/v2"], None),
        ("linux/amd64", ["linux/amd64/v1"], "linux/amd64/v1"),
        ("linux/amd64/v3", ["linux/amd64", "linux/amd64/v2", "linux/amd64/v4"], "linux/amd64/v2"),
        ("linux/arm/v7", ["linux/arm/v5", "linux/arm/v6"], "linux/arm/v6"),
        ("linux/arm/v6", ["linux/arm/v7", "linux/arm/v5"], "linux/arm/v5"),
        ("linux/arm", ["linux/arm/v6", "linux/arm/v7"], "linux/arm/v7"),
        ("linux/arm/v7", ["linux/arm"], "linux/arm"),
        ("linux/arm64", ["linux/arm64/v8"], "linux/arm64/v8"),
        ("linux/arm64/v8", ["linux/arm64"], "linux/arm64"),
        ("linux/arm64", ["linux/arm/v7"], None),
        ("linux/arm64/v9", ["linux/arm64", "linux/arm64/v9.5"], "linux/arm64"),
        ("linux/amd64", ["unknown/unknown", "linux/amd64"], "linux/amd64"),
        ("linux/s390x", ["linux/s390x", "linux/ppc64le"], "linux/s390x"),
        ("linux/amd64", [], None),
    ],
)
def test_the_nearest_variant_that_runs_is_chosen(wanted: str, offered: list[str], chosen: str | None) -> None:
    assert choose(wanted, *offered) == chosen


@settings(deadline=None)
@given(
    st.permutations(
        ["linux/arm/v5", "linux/arm/v6", "linux/arm/v7", "linux/arm64", "linux/amd64", "unknown/unknown"]
    )
)
def test_the_choice_does_not_depend_on_the_order_of_the_index(offered: list[str]) -> None:
    assert choose("linux/arm/v6", *offered) == "linux/arm/v6"
    assert choose("linux/arm/v8", *offered) == "linux/arm/v7"


def test_of_two_images_for_one_platform_the_first_is_chosen() -> None:
    first, second = make_image(labels={"n": "1"}), make_image(labels={"n": "2"})
    entries = (
        IndexEntry(digest=first.digest, wire_platform=None),
        *(entry for image in (first, second) for entry in _entries(make_index({"linux/amd64": image}).raw)),
    )
    chosen = choose_entry(entries, parse_platform("linux/amd64"))
    assert chosen is entries[1]


def _entries(raw: bytes) -> tuple[IndexEntry, ...]:
    found = decode_manifest(raw, "", digest_of(raw))
    assert isinstance(found, Index)
    return found.entries


def without(raw: bytes, **changes: object) -> bytes:
    """Change fields of a manifest; None takes one away."""
    fields = json.loads(raw) | changes
    return json.dumps({key: value for key, value in fields.items() if value is not None}).encode()


IMAGE, INDEX = make_image(), make_index({"linux/amd64": make_image()})


@pytest.mark.parametrize(
    ("raw", "content_type", "expected"),
    [
        (IMAGE.raw, OCI_MANIFEST, OCI_MANIFEST),
        (without(IMAGE.raw, mediaType=None), OCI_MANIFEST, OCI_MANIFEST),
        (without(IMAGE.raw, mediaType=None), f"{DOCKER_MANIFEST}; charset=utf-8", DOCKER_MANIFEST),
        (without(IMAGE.raw, mediaType=None), "text/plain", OCI_MANIFEST),
        (without(INDEX.raw, mediaType=None), "", OCI_INDEX),
        (IMAGE.raw, "application/json", OCI_MANIFEST),
        (without(IMAGE.raw, annotations=None, layers=None), "", OCI_MANIFEST),
    ],
)
def test_the_type_is_in_the_manifest_or_its_header_or_its_fields(
    raw: bytes, content_type: str, expected: str
) -> None:
    found = decode_manifest(raw, content_type, digest_of(raw))
    assert found.descriptor.media_type == expected
    assert found.raw == raw


@pytest.mark.parametrize(
    ("raw", "content_type"),
    [
        (b"", ""),
        (b"null", ""),
        (b"[]", ""),
        (b"{}", ""),
        (b"[" * 100_000, ""),
        (b"\xff", ""),
        (IMAGE.raw, OCI_INDEX),
        (without(IMAGE.raw, mediaType=None), OCI_INDEX),
        (without(IMAGE.raw, manifests=[]), ""),
        (without(INDEX.raw, layers=[]), ""),
        (without(IMAGE.raw, mediaType="application/vnd.docker.distribution.manifest.v1+prettyjws"), ""),
        (without(IMAGE.raw, config={"digest": "sha256:../../x", "size": 1}), ""),
        (without(INDEX.raw, manifests=[{"digest": "latest"}]), ""),
        (without(IMAGE.raw, annotations={"a": 5}), ""),
    ],
)
def test_what_is_no_manifest_or_could_be_two_things_is_refused(raw: bytes, content_type: str) -> None:
    with pytest.raises(ManifestError):
        decode_manifest(raw, content_type, digest_of(raw))


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_no_bytes_break_the_reading(raw: bytes) -> None:
    with pytest.raises(ManifestError):
        decode_manifest(raw, "", digest_of(raw))


def test_digests_are_of_known_algorithms_and_exact_length() -> None:
    assert is_digest("sha256:" + "a" * 64)
    assert is_digest("sha512:" + "0" * 128)
    for text in (
        "sha256:" + "a" * 63,
        "sha256:" + "A" * 64,
        "md5:" + "a" * 32,
        "sha256:" + "a" * 64 + "\n",
        "",
    ):
        assert not is_digest(text)
    assert digest_of(b"x", "sha512:").startswith("sha512:")
