"""The docker-in-docker pair. Its daemon is one of this machine instead of a service beside the job."""

import os

import pytest

from templates.local_ci import BRANCH, DEFAULT_BRANCH, MERGE_REQUEST, LocalCi

VALUES = ("3.11", "3.12", "3.13")


def jobs(name: str) -> dict[str, str]:
    return {f"{name}: [{value}]": "on_success" for value in VALUES}


def test_branches_build_and_the_default_branch_pushes(ci: LocalCi) -> None:
    ci.copy_example("docker")
    ci.commit()
    assert ci.list_jobs(BRANCH) == jobs("build")
    assert ci.list_jobs(MERGE_REQUEST) == jobs("build")
    assert ci.list_jobs({**BRANCH, "CI_OPEN_MERGE_REQUESTS": "group/project!7"}) == {}
    assert ci.list_jobs(DEFAULT_BRANCH) == jobs("build_and_push")


@pytest.mark.builds
def test_each_value_of_the_build_argument_is_an_image_of_its_own(ci: LocalCi, docker: None) -> None:
    ci.copy_example("docker")
    ci.write({"Dockerfile": "FROM scratch\nARG PYTHON_VERSION\nLABEL python=$PYTHON_VERSION\n"})
    template = (ci.top / "templates" / "docker.yml").read_text()
    service = "  services:\n    - docker:$[[ inputs.docker_version ]]-dind\n"
    assert service in template
    ci.write({"templates/docker.yml": template.replace(service, "")})
    ci.commit()
    daemon = {"DOCKER_HOST": os.environ["DOCKER_HOST"], "DOCKER_TLS_VERIFY": "", "DOCKER_CERT_PATH": ""}
    outcome = ci.run({**BRANCH, **daemon})
    assert outcome.succeeded, outcome.output
    assert ci.tags("astronaut-python") == {}
    outcome = ci.run({**DEFAULT_BRANCH, **daemon})
    assert outcome.succeeded, outcome.output
    assert set(ci.tags("astronaut-python")) == set(VALUES)
    for value in VALUES:
        assert ci.config("astronaut-python", value)["config"]["Labels"]["python"] == value
