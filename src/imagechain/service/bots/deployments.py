"""The deployment bot: when an image became production, start the pipeline that a rule names. Pure."""

import re
from collections.abc import Mapping, Sequence
from typing import Literal

import msgspec

from imagechain.config import DeploymentSettings
from imagechain.config.told import DEPLOYMENT
from imagechain.discovery.globs import compile_glob
from imagechain.service.bots.ports import FoundDeployment

_PLACEHOLDER = re.compile(r"\{([a-z_]+)\}")

FollowState = Literal["wanted", "sending", "running", "passed", "failed"]


class Follow(msgspec.Struct, frozen=True, kw_only=True, tag="deployment"):
    """One pipeline that has to follow one deployment, and how far it is."""

    #: `<project>-<deployment>-<rule>`.
    id: str
    #: Where was deployed from, and where people look for what came of it.
    project_id: int
    path: str
    sha: str
    environment: str
    at: float
    #: What is to be started.
    start: str
    ref: str
    inputs: dict[str, str]
    variables: dict[str, str]
    state: FollowState = "wanted"
    why: str = ""
    target_id: int | None = None
    after_pipeline: int = 0
    sent_at: float = 0.0
    pipeline: int | None = None
    url: str = ""

    @property
    def is_over(self) -> bool:
        """Whether nothing is left to be done but to tell it."""
        return self.state in {"passed", "failed"}


def rules_for(
    rules: Sequence[DeploymentSettings], deployment: FoundDeployment, path: str
) -> list[tuple[int, DeploymentSettings]]:
    """List the rules that match a deployment, with their numbers."""
    if deployment.status != "success":
        return []
    return [
        (number, rule)
        for number, rule in enumerate(rules)
        if compile_glob(rule.environment).fullmatch(deployment.environment)
        and compile_glob(rule.projects).fullmatch(path)
    ]


def choose_image(environment: str, digests: Mapping[str, str]) -> str:
    """Choose the image that an environment is about; empty if nothing tells which.

    It is that of its name (`production/app`); of `production`, the only one of the project.
    """
    ending = environment.partition("/")[2]
    candidates = [image for image in digests if not ending or image.rpartition(":")[0].endswith(f"/{ending}")]
    return candidates[0] if len(candidates) == 1 else ""


def follow(
    number: int,
    rule: DeploymentSettings,
    deployment: FoundDeployment,
    path: str,
    *,
    digests: Mapping[str, str],
    at: float,
) -> Follow:
    """Say what a rule makes of a deployment.

    Args:
        number: of the rule.
        rule: the rule.
        deployment: what was deployed.
        path: of its project.
        digests: the digest of each image that the project has in production, by reference.
        at: the present time.
    """
    image = choose_image(deployment.environment, digests)
    facts = {
        "project": path,
        "environment": deployment.environment,
        "sha": deployment.sha,
        "ref": deployment.ref,
        "deployment": str(deployment.id),
        "image": image,
        "digest": digests.get(image, ""),
    }
    asked = {fact for text in (rule.inputs | rule.variables).values() for fact in _PLACEHOLDER.findall(text)}
    why = "" if image or asked.isdisjoint({"image", "digest"}) else _unknown(deployment, path, digests)
    variables = {name: _fill(text, facts) for name, text in rule.variables.items()}
    if not rule.inputs and not rule.variables:
        variables = {DEPLOYMENT: msgspec.json.encode({**facts, "images": digests}).decode()}
    return Follow(
        id=f"{deployment.project_id}-{deployment.id}-{number}",
        project_id=deployment.project_id,
        path=path,
        sha=deployment.sha,
        environment=deployment.environment,
        at=at,
        start=rule.start,
        ref=rule.ref,
        inputs={name: _fill(text, facts) for name, text in rule.inputs.items()},
        variables=variables,
        state="failed" if why else "wanted",
        why=why,
    )


def failure(errand: Follow) -> str:
    """Say to people that what had to follow a deployment did not succeed."""
    link = f" See [pipeline {errand.pipeline}]({errand.url})." if errand.pipeline is not None else ""
    why = f": {errand.why}" if errand.why else ""
    return (
        f"{errand.sha[:8]} was deployed to `{errand.environment}`, but the pipeline of `{errand.start}` that "
        f"had to follow failed{why}.{link}"
    )


def _unknown(deployment: FoundDeployment, path: str, digests: Mapping[str, str]) -> str:
    """Say why nobody knows which image was deployed: with none, no pipeline must start."""
    if digests:
        return (
            f"`{deployment.environment}` names none, or not one, of the images of `{path}` with the tag "
            f"`production` ({', '.join(digests)}); call the environment `production/<image>`"
        )
    return (
        f"no image of `{path}` has the tag `production`; the deployment job has to run `imagechain image tag`"
    )


def _fill(text: str, facts: Mapping[str, str]) -> str:
    return _PLACEHOLDER.sub(lambda match: facts[match[1]], text)
