"""The cases that BuildKit's own parser and resolver have answered."""

import json
from pathlib import Path
from typing import Any

import pytest

from imagechain.containerfile import ContainerfileError, ImageDependency, read_containerfile
from imagechain.refs import parse_platform

FOLDER = Path(__file__).parents[2].parent / "shared" / "containerfile-cases"
EXPECTED: dict[str, dict[str, Any]] = (
    json.loads((FOLDER / "expected.json").read_text()) if FOLDER.exists() else {}
)

pytestmark = pytest.mark.skipif(not EXPECTED, reason="../shared/containerfile-cases is not there")


def described(dependency: ImageDependency) -> dict[str, Any]:
    """Write a dependency as the expectations do."""
    found: dict[str, Any] = {
        "kind": dependency.kind,
        "written": dependency.written,
        "stage": dependency.stage,
        "stage_name": dependency.stage_name,
        "image": dependency.image,
        "of_stage": dependency.of_stage,
        "scratch": dependency.scratch or None,
    }
    if dependency.kind == "from":
        found["line"] = dependency.line
    return {key: value for key, value in found.items() if value is not None or key == "stage"}


@pytest.mark.parametrize("name", [name for name in EXPECTED if not EXPECTED[name]["error"]])
def test_a_file_is_read_as_buildkit_reads_it(name: str) -> None:
    case = EXPECTED[name]
    data = (FOLDER / name).read_bytes()
    options = case["options"]
    containerfile = read_containerfile(
        data,
        build_args=case["build_args"],
        platform=parse_platform(options.get("platform", "linux/amd64")),
        target=options.get("target"),
    )
    needed = {
        dependency.image
        for dependency in containerfile.dependencies
        if dependency.image is not None
        and dependency.kind not in ("syntax", "onbuild")
        and (dependency.needed or options.get("all_stages"))
    }
    assert sorted(needed) == case["needed_images"]

    # The listed dependencies were resolved for linux/amd64, whatever the build is for.
    containerfile = read_containerfile(data, build_args=case["build_args"], target=options.get("target"))
    expected = [{k: v for k, v in entry.items() if k != "platform"} for entry in case["dependencies"]]
    assert [described(dependency) for dependency in containerfile.dependencies] == expected


@pytest.mark.parametrize("name", [name for name in EXPECTED if EXPECTED[name]["error"]])
def test_a_file_that_buildkit_refuses_is_refused_in_the_same_sense(name: str) -> None:
    case = EXPECTED[name]
    with pytest.raises(ContainerfileError) as caught:
        read_containerfile((FOLDER / name).read_bytes(), build_args=case["build_args"])
    where, _, message = case["error"].rpartition("dockerfile parse error on line ")[2].partition(": ")
    assert (message or where) in caught.value.message
    if message:
        assert caught.value.line == int(where)
