import json

import pytest

from imagechain.images.trial import TrialError, read_trial

DIGEST = "sha256:" + "1" * 64


def test_both_references_are_normalised() -> None:
    told = {"alpine": f"registry.example.com/alpine@{DIGEST}", "r.example/base:1": "r.example/base:p-7"}
    assert read_trial({"IMAGE_TRIAL": json.dumps(told)}) == {
        "docker.io/library/alpine:latest": f"registry.example.com/alpine@{DIGEST}",
        "r.example/base:1": "r.example/base:p-7",
    }


@pytest.mark.parametrize("environ", [{}, {"IMAGE_TRIAL": ""}])
def test_without_the_variable_nothing_is_tried(environ: dict[str, str]) -> None:
    assert read_trial(environ) == {}


@pytest.mark.parametrize("text", ["1", "[]", "{", '{"a": 1}', '{"A B": "c"}', '{"a": ""}'])
def test_another_form_is_refused_with_the_right_one(text: str) -> None:
    with pytest.raises(TrialError, match="IMAGE_TRIAL must be JSON"):
        read_trial({"IMAGE_TRIAL": text})
