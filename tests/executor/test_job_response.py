import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from executor.emulator import response, variable
from imagechain.executor import job as jobs
from imagechain.executor.errors import SystemFailureError

_SAMPLE = Path(__file__).parents[3] / "shared/gitlab/runner/job_request_response.sample.json"


def test_the_sample_of_the_runners_own_source_is_read() -> None:
    if not _SAMPLE.exists():
        pytest.skip("the sample answer of GitLab is not beside this repository")
    job = jobs.parse(json.loads(_SAMPLE.read_bytes()))
    assert (job.id, job.project_id, job.server) == (10, 123, "gitlab.example.com")
    assert job.project_path == "test/test-project"
    assert job.image is not None
    assert (job.image.name, job.image.entrypoint, job.image.platform) == (
        "ruby:3.3",
        ("/bin/sh",),
        "arm64/v8",
    )
    assert job.services[0].aliases == ("db-pg",)
    assert job.services[0].command == ("sleep", "30")
    assert job.credentials == (("registry.gitlab.example.com", "gitlab-ci-token", "job-token"),)
    assert job.public_variables == {}  # a file is not public
    assert not job.protected
    assert not job.fetches


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "1; rm -rf /"},
        {"id": -1},
        {"id": True},
        {"id": None},
        {"job_info": None},
        {"runner_info": {"timeout": 0}},
        {"image": "alpine"},
        {"image": {"name": ["alpine"]}},
        {"services": {"name": "x"}},
        {"variables": "A=b"},
        {"image": {"name": "x", "entrypoint": "sh"}},
    ],
)
def test_an_answer_that_is_no_job_is_refused(changes: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "response.json"
    path.write_text(json.dumps(response(**changes)))
    with pytest.raises(SystemFailureError, match="holds no job"):
        jobs.load({"JOB_RESPONSE_FILE": str(path)})


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, "\x00"])
def test_a_file_that_is_no_answer_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "response.json"
    path.write_text(text)
    with pytest.raises(SystemFailureError, match="holds no job"):
        jobs.load({"JOB_RESPONSE_FILE": str(path)})


def test_a_missing_file_names_the_runner_version_that_writes_it() -> None:
    with pytest.raises(SystemFailureError, match=r"14\.1"):
        jobs.load({})
    with pytest.raises(SystemFailureError, match="cannot read"):
        jobs.load({"JOB_RESPONSE_FILE": "/nonexistent"})


def test_jobs_of_two_servers_with_the_same_number_have_different_names() -> None:
    one = jobs.parse(response())
    other = jobs.parse(
        response(git_info=response()["git_info"] | {"repo_url": "https://other.example/a.git"})
    )
    assert one.id == other.id
    assert one.key != other.key


def test_only_public_variables_are_shown_and_they_never_reach_for_a_secret() -> None:
    job = jobs.parse(
        response(
            variables=[
                variable("A", "1"),
                variable("B", "${A}-$SECRET-$A"),
                variable("RAW", "$A", raw=True),
                variable("SECRET", "s", public=False),
                variable("MASKED", "m", masked=True),
                variable("FILE", "f", file=True),
            ]
        )
    )
    assert job.public_variables == {"A": "1", "B": "1--1", "RAW": "$A"}


@pytest.mark.parametrize(
    ("strategy", "allowed", "fetches"),
    [
        ("", True, True),
        ("", False, False),
        ("clone", True, False),
        ("fetch", False, True),
        ("none", True, False),
    ],
)
def test_builds_are_kept_where_the_runner_fetches(strategy: str, allowed: bool, fetches: bool) -> None:
    variables = [variable("GIT_STRATEGY", strategy)] if strategy else []
    assert jobs.parse(response(allow_git_fetch=allowed, variables=variables)).fetches is fetches


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@given(changes=st.dictionaries(st.sampled_from(list(response())), _JSON))
def test_any_answer_gives_a_job_or_a_value_error(changes: dict[str, Any]) -> None:
    try:
        job = jobs.parse(response(**changes))
    except ValueError:
        return
    assert job.id > 0
