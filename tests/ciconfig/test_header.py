"""The inputs that a CI configuration declares."""

import pytest

from imagechain.ciconfig import CiConfigError, read_ci_config, read_declared_inputs

HEADER = b"spec:\n  inputs:\n    cause:\n    version: {default: 1}\n---\nbuild: {script: make}\n"


def test_the_header_names_the_inputs_and_is_no_part_of_the_configuration() -> None:
    assert read_declared_inputs(HEADER) == {"cause", "version"}
    assert read_ci_config(HEADER, read_local=lambda _: None).warnings == ()


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"build: {script: make spec}\n",
        # Without a second document `spec` is no header: GitLab takes it for a job.
        b"spec: {inputs: {cause: }}\n",
        b"spec:\n---\nbuild: {script: make}\n",
        b"spec: {inputs: }\n---\nbuild: {script: make}\n",
        b"spec: {inputs: [cause]}\n---\nbuild: {script: make}\n",
    ],
)
def test_without_a_header_that_declares_any_there_are_none(text: bytes) -> None:
    assert read_declared_inputs(text) == frozenset()


@pytest.mark.parametrize(
    "text", [b"spec: {\n", b"spec: {inputs: {a: }}\n---\n---\n---\n", b"a: 1\n---\nspec: 1\n"]
)
def test_what_is_no_configuration_is_an_error(text: bytes) -> None:
    with pytest.raises(CiConfigError):
        read_declared_inputs(text)
