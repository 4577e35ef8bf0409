"""The index of an image's parts: one digest for one set of parts, and no part that does not belong."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagechain.images.assemble import Part, PartError, assemble, check_parts, common_labels
from imagechain.refs import decode_image_config, parse_platform
from imagechain.registry import Index, Manifest
from imagechain.registry.manifest import decode_manifest, digest_of
from registry.pictures import (
    DOCKER_CONFIG,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    OCI_CONFIG,
    OCI_INDEX,
    OCI_MANIFEST,
    make_image,
)

REVISION = "org.opencontainers.image.revision"
SOURCE = "org.opencontainers.image.source"
LABELS = {REVISION: "abc", SOURCE: "https://gitlab.example.com/a/b", "maintainer": "me"}


def part(arch: str, *, variant: str = "", wanted: str = "", docker: bool = False, **labels: str) -> Part:
    image = make_image(
        architecture=arch,
        variant=variant,
        labels={**LABELS, **{f"org.opencontainers.image.{name}": text for name, text in labels.items()}},
        layers=[arch.encode() + variant.encode()],
        media_type=DOCKER_MANIFEST if docker else OCI_MANIFEST,
        config_type=DOCKER_CONFIG if docker else OCI_CONFIG,
    )
    manifest = decode_manifest(image.raw, image.media_type, image.digest)
    assert isinstance(manifest, Manifest)
    platform = parse_platform(f"linux/{wanted or arch}")
    return Part(f"registry/app:p-7-{arch}", platform, manifest, decode_image_config(image.blobs[0]))


PARTS = (part("amd64"), part("arm64", variant="v8"), part("s390x"), part("arm", variant="v7"))


@settings(deadline=None)
@given(st.permutations(PARTS))
def test_the_order_of_the_parts_does_not_matter(parts: list[Part]) -> None:
    assert assemble(parts) == assemble(PARTS)


def test_the_index_lists_every_part_with_its_platform() -> None:
    raw, media_type = assemble(PARTS)
    index = decode_manifest(raw, media_type, digest_of(raw))
    assert isinstance(index, Index)
    assert media_type == OCI_INDEX
    assert [(str(entry.platform), entry.digest, entry.size) for entry in index.entries] == [
        (str(one.platform), one.manifest.descriptor.digest, len(one.manifest.raw))
        for one in sorted(PARTS, key=lambda one: str(one.platform))
    ]
    # Strict registries refuse `aarch64`, and a variant that is implied.
    assert json.loads(raw)["manifests"][2]["platform"] == {"architecture": "arm64", "os": "linux"}


def test_the_index_says_what_all_parts_say() -> None:
    parts = (part("amd64", version="1", created="one"), part("arm64", version="1", created="two"))
    raw, _ = assemble(parts)
    expected = {REVISION: "abc", SOURCE: LABELS[SOURCE], "org.opencontainers.image.version": "1"}
    assert json.loads(raw)["annotations"] == expected


def test_images_in_dockers_format_get_a_list_in_dockers_format() -> None:
    raw, media_type = assemble((part("amd64", docker=True), part("arm64", docker=True)))
    assert media_type == DOCKER_LIST
    assert "annotations" not in json.loads(raw)
    assert assemble((part("amd64", docker=True), part("arm64")))[1] == OCI_INDEX


names = st.sampled_from([REVISION, SOURCE, "a", "dev.imagechain.recipe"])


@settings(deadline=None)
@given(st.lists(st.dictionaries(names, st.sampled_from("xy")), min_size=1, max_size=4))
def test_common_labels_are_those_that_nobody_contradicts(labels: list[dict[str, str]]) -> None:
    common = common_labels(labels)
    for name in {name for one in labels for name in one}:
        agreed = len({one.get(name) for one in labels}) == 1
        assert (name in common) == (agreed and name != "a")


def test_parts_that_belong_together_are_taken() -> None:
    check_parts(PARTS)
    check_parts(PARTS[:1])


def test_parts_of_two_commits_belong_together_where_one_was_not_built_again() -> None:
    check_parts((part("amd64"), part("arm64", revision="def")))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (
            (part("amd64"), part("amd64", wanted="arm64", version="2")),
            r"p-7-amd64 .* linux/arm64, but is for",
        ),
        ((part("amd64"), part("arm64", source="elsewhere")), "p-7-arm64 is of the repository elsewhere"),
        ((part("amd64"), part("amd64")), "are one image"),
    ],
)
def test_a_part_that_does_not_belong_is_refused_by_name(parts: tuple[Part, ...], message: str) -> None:
    with pytest.raises(PartError, match=message):
        check_parts(parts)
