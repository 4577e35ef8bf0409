"""From a folder to the images of a pipeline."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import pytest

from child_pipeline.parts import REGISTRY
from imagechain.config import PipelineSettings, Settings
from imagechain.discovery import Discovery
from imagechain.discovery.local import discover
from imagechain.engines.child_pipeline import (
    ChildPipelineError,
    Parent,
    PipelineImage,
    Repository,
    list_images,
)
from imagechain.refs import Platform


def images(
    top: Path,
    files: Mapping[str, str],
    *,
    chain: Mapping[str, Any] | None = None,
    default_arches: tuple[str, ...] = (),
    **pipeline: Any,
) -> dict[str, PipelineImage]:
    for name, text in files.items():
        file = top / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    settings = msgspec.convert({"chain": {"prefix": REGISTRY, **(chain or {})}}, Settings)

    def discovered(build_args: Mapping[str, str], arch: str | None) -> Discovery:
        platform = Platform("linux", arch or "amd64")
        return discover(top, settings, platform=platform, build_args=build_args, dialect="buildah")

    repository = Repository(top=top, registry_image=REGISTRY, project_name="project")
    listed = list_images(discovered, repository, msgspec.convert(pipeline, PipelineSettings), default_arches)
    assert [one.name for one in listed] == sorted(one.name for one in listed)
    return {one.name: one for one in listed}


def test_images_are_named_as_the_build_command_names_them(tmp_path: Path) -> None:
    found = images(
        tmp_path,
        {
            "Containerfile": "FROM scratch\n",
            "Containerfile.extra": "FROM scratch\n",
            "base/Containerfile": "FROM scratch\n",
            "base/Dockerfile.slim": "FROM scratch\n",
            "builds/web.in": "FROM scratch\n",
            "sub/builds/api.in": "FROM scratch\n",
            "images/Deep/Containerfile": "FROM scratch\n",
            "templated/Containerfile": "FROM scratch\n",
            "silent/Containerfile": "FROM scratch\n",
        },
        chain={"images": {"templated": f"{REGISTRY}/other-name:latest", "silent": []}},
    )
    assert {name: one.file for name, one in found.items()} == {
        "project": "Containerfile",
        "extra": "Containerfile.extra",
        "base": "base/Containerfile",
        "base/slim": "base/Dockerfile.slim",
        "web": "builds/web.in",
        "sub/api": "sub/builds/api.in",
        "images/deep": "images/Deep/Containerfile",
        "other-name": "templated/Containerfile",
    }
    assert found["web"].context == "."
    assert found["sub/api"].context == "sub"


def test_parents_are_found_by_their_repository_whatever_the_tag(tmp_path: Path) -> None:
    found = images(
        tmp_path,
        {
            "base/Containerfile": "FROM docker.io/library/debian:12\n",
            "builds/tools.in": "FROM scratch\n",
            "app/Containerfile": (
                f"FROM {REGISTRY}/base:production\n"
                f"COPY --from={REGISTRY}/tools:latest /a /a\n"
                f"COPY --from={REGISTRY}/base@sha256:{'0' * 64} /b /b\n"
                f"RUN --mount=from={REGISTRY}/app:latest,target=/cache true\n"
            ),
        },
    )
    assert found["app"].parents == (
        Parent(f"{REGISTRY}/base:production", "base"),
        Parent(f"{REGISTRY}/tools:latest", "tools"),
    )
    assert found["base"].parents == ()


def test_an_image_is_built_for_each_combination_of_its_matrix_with_its_own_parents(tmp_path: Path) -> None:
    found = images(
        tmp_path,
        {
            "python/Containerfile": "ARG V=3.13\nARG D=trixie\nFROM docker.io/library/python:$V-$D\n",
            "app/Containerfile": f"ARG V=3.13\nFROM {REGISTRY}/python-$V-bookworm\n",
        },
        matrix={
            "python": {"V": ["3.12", "3.13"], "D": ["bookworm", "Trixie"]},
            "app": {"V": ["3.12", "3.13"]},
        },
    )
    assert sorted(found) == [
        "app-3.12",
        "app-3.13",
        "python-3.12-bookworm",
        "python-3.12-trixie",
        "python-3.13-bookworm",
        "python-3.13-trixie",
    ]
    assert found["python-3.12-trixie"].build_args == {"V": "3.12", "D": "Trixie"}
    assert [parent.image for parent in found["app-3.12"].parents] == ["python-3.12-bookworm"]
    assert [parent.image for parent in found["app-3.13"].parents] == ["python-3.13-bookworm"]


def test_a_reference_to_one_of_many_images_must_say_which(tmp_path: Path) -> None:
    with pytest.raises(ChildPipelineError, match=r"app/Containerfile:1: .* is one of 2 images, .*'py-3.12'"):
        images(
            tmp_path,
            {
                "py/Containerfile": "ARG V\nFROM scratch\n",
                "app/Containerfile": f"FROM {REGISTRY}/py:latest\n",
            },
            matrix={"py": {"V": ["3.12", "3.13"]}},
        )


def test_parents_of_all_architectures_count(tmp_path: Path) -> None:
    found = images(
        tmp_path,
        {
            "for-amd64/Containerfile": "FROM scratch\n",
            "for-arm64/Containerfile": "FROM scratch\n",
            "app/Containerfile": f"ARG TARGETARCH\nFROM {REGISTRY}/for-$TARGETARCH\n",
        },
        default_arches=("amd64", "arm64"),
        arches={"for-amd64": ["amd64"], "for-arm64": ["arm64"]},
    )
    assert [parent.image for parent in found["app"].parents] == ["for-amd64", "for-arm64"]
    assert found["app"].arches == ("amd64", "arm64")
    assert found["for-arm64"].arches == ("arm64",)


def test_a_build_reads_what_its_containerfile_names_and_what_that_includes(tmp_path: Path) -> None:
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked" / "away").symlink_to("..")
    found = images(
        tmp_path,
        {
            "builds/web.in": '#include "block"\nCOPY src/web /web\n',
            "block": "FROM scratch\n",
            "all/Containerfile": "FROM scratch\nCOPY . /\n",
            "linked/Containerfile": "FROM scratch\nCOPY away/x /\n",
            "base/Containerfile": "FROM scratch\nONBUILD COPY . /\n",
            "child/Containerfile": f"FROM {REGISTRY}/base\n",
        },
        changes={"child": ["src/core"]},
    )
    assert found["web"].reads.sources == ("src/web",)
    assert {"builds/web.in", "block", ".containerignore"} <= found["web"].reads.files
    assert [found[name].reads.sources for name in ("all", "linked", "child")] == [None, None, None]
    assert found["child"].reads.more == ("src/core",)
    assert found["base"].reads.sources == ()


@pytest.mark.parametrize(
    ("files", "pipeline", "message"),
    [
        ({}, {}, r"no Containerfile is here"),
        ({"a/Containerfile": "FROM a b\n"}, {}, r"a/Containerfile:1: .*; mend it"),
        (
            {"a/Containerfile": "FROM scratch\n", "a/.containerignore": "[\n"},
            {},
            r"a/.containerignore: .*mend or remove the pattern",
        ),
        (
            {"a/Containerfile": "FROM scratch\n", "a-1/Containerfile": "FROM scratch\n"},
            {"matrix": {"a": {"X": ["1"]}}},
            r"are both called 'a-1'",
        ),
        (
            {"a/Containerfile": "FROM scratch\n"},
            {"matrix": {"a": {"X": ["a b"]}}},
            r"would be the image 'a-a b', which is no name",
        ),
        (
            {"a/Containerfile": "FROM scratch\n"},
            {"matrix": {"a": {"X": [str(n) for n in range(201)]}}},
            r"its matrix has 201 combinations",
        ),
        (
            {"a/Containerfile": "FROM scratch\n"},
            {"arches": {"b": ["amd64"]}},
            r"'b' in \[pipeline.arches\] names no folder.*There are a/Containerfile$",
        ),
    ],
    ids=["none", "unreadable", "ignore-file", "twice", "no-name", "too-many", "unused"],
)
def test_what_cannot_become_a_pipeline_is_refused_by_name(
    tmp_path: Path, files: dict[str, str], pipeline: dict[str, Any], message: str
) -> None:
    with pytest.raises(ChildPipelineError, match=message):
        images(tmp_path, files, **pipeline)


@pytest.mark.parametrize(
    ("pipeline", "message"),
    [
        ({"arches": {"a": ["aarch64"]}}, r"write 'arm64' instead of 'aarch64'"),
        ({"arches": {"a": ["amd64", "amd64"]}}, r"each architecture once"),
        ({"arches": {"a": ["amd46"]}}, r"unknown architecture 'amd46'"),
        ({"runner_tags": {"amr64": ["big"]}}, r"unknown architecture 'amr64'"),
        ({"runner_tags": {"x86_64": ["big"]}}, r"write 'amd64' instead of 'x86_64'"),
        ({"matrix": {"a": {"A B": ["1"]}}}, r"'A B' is no name of a build argument"),
        ({"matrix": {"a": {"A": []}}}, r"A needs one or more values"),
    ],
)
def test_settings_that_can_mean_nothing_are_refused(pipeline: dict[str, Any], message: str) -> None:
    with pytest.raises(msgspec.ValidationError, match=message):
        msgspec.convert(pipeline, PipelineSettings)
