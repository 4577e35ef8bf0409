"""What a pipeline is told: by inputs where its configuration declares them, by variables, or not at all."""

import asyncio
import json
from pathlib import Path

import pytest

from imagechain.testing.values import Pipeline
from service.test_whole import fresh, ready
from service.whole import CI, Whole, store_at, until

INPUTS = """spec:
  inputs:
    imagechain_cause: {default: ""}
    imagechain_inputs: {default: ""}
---
build:
  variables: {CAUSE: '$[[ inputs.imagechain_cause ]]', INPUTS: '$[[ inputs.imagechain_inputs ]]'}
  script: [make]
"""
OTHER_INPUTS = "spec: {inputs: {version: {default: 1}}}\n---\n" + CI
UNFIT_INPUTS = "spec: {inputs: {imagechain_cause: {default: a, options: [a]}}}\n---\n" + CI


def built_by(tmp_path: Path, ci: str, **options: object) -> tuple[Whole, Pipeline]:
    """Let the base move, and give the pipeline of the project above it."""
    whole = Whole(store_at(tmp_path), **options)
    whole.add("base", "debian:bookworm")
    whole.add("app", "base", ci=ci)

    async def main() -> None:
        async with whole.serving() as service:
            await ready(service, whole, 3)
            whole.gitlab.push("images/base", {"more": "text"})
            await until(service, lambda shown: fresh(shown) and len(whole.built) >= 2)

    asyncio.run(main())
    assert whole.built == ["base", "app"]
    return whole, whole.gitlab.latest_pipeline("images/app")


@pytest.mark.parametrize("options", [{}, {"pipeline_variables_role": "no_one_allowed"}])
def test_declared_inputs_tell_the_cause_and_the_digests_of_the_parents(
    tmp_path: Path, options: dict[str, object]
) -> None:
    whole, pipeline = built_by(tmp_path, INPUTS, **options)
    base = whole.images["registry.example.com/images/base:latest"]
    assert not pipeline.variables
    assert pipeline.inputs.keys() == {"imagechain_cause", "imagechain_inputs"}
    assert "images/base moved" in pipeline.inputs["imagechain_cause"]
    assert json.loads(pipeline.inputs["imagechain_inputs"]) == {
        "registry.example.com/images/base:latest": {"content": base.content, "digest": base.digest}
    }


def test_inputs_of_others_are_no_place_for_it_so_that_variables_tell_it(tmp_path: Path) -> None:
    whole, pipeline = built_by(tmp_path, OTHER_INPUTS)
    base = whole.images["registry.example.com/images/base:latest"]
    told = {variable.key: variable.value for variable in pipeline.variables}
    assert not pipeline.inputs
    assert json.loads(told["IMAGECHAIN_INPUTS"])["registry.example.com/images/base:latest"] == {
        "content": base.content,
        "digest": base.digest,
    }


def test_where_neither_inputs_nor_variables_may_be_given_it_is_told_nothing_and_built(tmp_path: Path) -> None:
    _, pipeline = built_by(tmp_path, OTHER_INPUTS, pipeline_variables_role="no_one_allowed")
    assert not pipeline.inputs
    assert not pipeline.variables


def test_inputs_that_do_not_fit_their_declaration_are_told_by_variables(tmp_path: Path) -> None:
    _, pipeline = built_by(tmp_path, UNFIT_INPUTS)
    assert not pipeline.inputs
    assert {variable.key for variable in pipeline.variables} >= {"IMAGECHAIN_CAUSE", "IMAGECHAIN_INPUTS"}
