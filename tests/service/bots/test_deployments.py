"""Which image a deployment is about, and what a rule makes of it."""

import pytest

from imagechain.config import DeploymentSettings
from imagechain.service.bots.deployments import choose_image, failure, follow
from imagechain.service.bots.ports import FoundDeployment

APP, WEB = "r.example.com/g/app:production", "r.example.com/g/web:production"
DIGEST = "sha256:" + "1" * 64


@pytest.mark.parametrize(
    ("environment", "images", "chosen"),
    [
        ("production", [APP], APP),
        ("production/app", [WEB, APP], APP),
        ("production/eu", [APP], ""),
        ("production", [APP, WEB], ""),
        ("production/pp", [APP, WEB], ""),
        ("production/app", [], ""),
    ],
)
def test_the_image_is_that_of_the_environment_or_the_only_one(
    environment: str, images: list[str], chosen: str
) -> None:
    assert choose_image(environment, dict.fromkeys(images, DIGEST)) == chosen


@pytest.mark.parametrize(
    ("images", "told"),
    [
        (
            [],
            "has the tag `production`; the deployment job has to run `imagechain image tag`",
        ),
        ([APP, WEB], "call the environment `production/<image>`"),
    ],
)
@pytest.mark.parametrize(
    "rule",
    [
        DeploymentSettings(environment="production", start="x", inputs={"a": "{image}@{digest}"}),
        DeploymentSettings(environment="production", start="x", variables={"a": "{digest}"}),
    ],
    ids=["inputs", "variables"],
)
def test_no_pipeline_starts_with_an_image_that_nobody_knows(
    rule: DeploymentSettings, images: list[str], told: str
) -> None:
    errand = follow(0, rule, deployment(), "g/p", digests=dict.fromkeys(images, DIGEST), at=0.0)
    assert errand.state == "failed"
    assert told in failure(errand)


def test_a_rule_that_asks_for_no_image_needs_none() -> None:
    rule = DeploymentSettings(environment="production", start="x", variables={"a": "{sha}"})
    errand = follow(0, rule, deployment(), "g/p", digests={}, at=0.0)
    assert (errand.state, errand.variables) == ("wanted", {"a": "c"})


def deployment() -> FoundDeployment:
    return FoundDeployment(
        id=5, project_id=1, environment="production", status="success", ref="main", sha="c"
    )
