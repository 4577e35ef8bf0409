"""Which tags an image gets, by what the pipeline is. Pure: the environment is an argument.

    tag / pipeline      default branch   other branch   git tag      merge request   deployment job
    p-<pipeline>        always           always         always       always
    g-<pipeline>        on success       on success     on success   on success
    latest              on success
    <git tag>                                           on success
    mr-<iid>                                                                         of a merge request
    production                                                                       to production

`-<architecture>` is appended for the image of one architecture. The facts of a pipeline are read from
GitLab's predefined variables. A job can set these as it likes, so what follows from them keeps people from
mistakes; against an attacker who can start jobs only GitLab's own protection helps (docs/promote.md).
"""

import re
from collections.abc import Mapping
from typing import Literal

import msgspec

from imagechain.images.trial import TRIAL_VARIABLE
from imagechain.refs import Platform, parse_platform

LATEST = "latest"
PRODUCTION = "production"

_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_NUMBER = re.compile(r"[0-9]{1,20}")
_NO_WORD = re.compile(r"[^A-Z0-9]")
#: What a git tag must not name, because it means something else: whoever may push git tags could deploy.
_RESERVED = re.compile(
    rf"(?:{LATEST}|{PRODUCTION}|(?:p|g|mr)-[0-9]+|key-[0-9a-f]+)"
    r"(?:-(?:386|amd64|arm|arm64|loong64|ppc64le|riscv64|s390x)(?:-v[0-9]+)?)?"
)

_PIPELINE = "CI_PIPELINE_ID"
#: Where the jobs run in a child pipeline: the pipeline that people see, which the tags are named after.
_PIPELINE_OF_TAGS = "IMAGE_PIPELINE_ID"
#: Variables that exist in pipelines of merge requests only, their child pipelines included.
_MERGE_REQUEST_PREFIX = "CI_MERGE_REQUEST_"
_EXTERNAL_PREFIX = "CI_EXTERNAL_PULL_REQUEST_"
_MERGE_REQUEST_SOURCES = frozenset({"merge_request_event", "external_pull_request_event"})


class PipelineError(ValueError):
    """The facts of a pipeline are missing or contradict each other, or give no tag; the message says how."""


class Pipeline(msgspec.Struct, frozen=True, kw_only=True):
    """What a pipeline is."""

    id: str
    #: What it was started for. Detached, merged-result and merge-train pipelines are all of a merge request.
    kind: Literal["branch", "tag", "merge-request"]
    #: The branch or git tag; for a merge request its source branch, which may be called like any other.
    ref: str
    is_default_branch: bool = False
    #: Whether GitLab protects the branch or tag.
    is_protected: bool = False
    #: Number of the merge request within its project.
    merge_request: str = ""
    #: It only tries the image on another base: it gates its images, and moves no name that others use.
    is_trial: bool = False
    #: The environment that the job deploys to.
    environment: str = ""

    def __post_init__(self) -> None:
        """Refuse what would give a tag that means something else."""
        if not _NUMBER.fullmatch(self.id):
            raise PipelineError(f"the pipeline id {self.id!r} is no number; set {_PIPELINE} as GitLab does")
        if self.kind == "merge-request" and not _NUMBER.fullmatch(self.merge_request):
            raise PipelineError(
                f"the pipeline is of a merge request without a number ({self.merge_request!r}); "
                f"pass {_MERGE_REQUEST_PREFIX}IID on"
            )
        if self.is_default_branch and self.kind != "branch":
            raise PipelineError(f"a pipeline of a {self.kind} is not of the default branch")


def read_pipeline(environ: Mapping[str, str]) -> Pipeline | None:
    """Read what pipeline this is from GitLab's variables; None: this is no CI job.

    Raises:
        PipelineError: the variables contradict each other.
    """
    if not environ.get(_PIPELINE):
        return None
    branch, tag = environ.get("CI_COMMIT_BRANCH", ""), environ.get("CI_COMMIT_TAG", "")
    kind: Literal["branch", "tag", "merge-request"]
    if _is_of_merge_request(environ):
        kind, branch = "merge-request", ""
    elif branch and tag:
        raise PipelineError(f"the pipeline is of the branch {branch!r} and of the tag {tag!r}; unset one")
    elif tag:
        kind = "tag"
    elif branch:
        kind = "branch"
    else:
        raise PipelineError("the pipeline has no branch, tag or merge request; run this in a job of GitLab")
    return Pipeline(
        id=environ.get(_PIPELINE_OF_TAGS) or environ[_PIPELINE],
        kind=kind,
        ref=branch or tag or environ.get("CI_COMMIT_REF_NAME", ""),
        is_default_branch=bool(branch) and branch == environ.get("CI_DEFAULT_BRANCH"),
        is_protected=environ.get("CI_COMMIT_REF_PROTECTED") == "true",
        merge_request=(
            environ.get(f"{_MERGE_REQUEST_PREFIX}IID") or environ.get(f"{_EXTERNAL_PREFIX}IID", "")
            if kind == "merge-request"
            else ""
        ),
        is_trial=bool(environ.get(TRIAL_VARIABLE)),
        environment=environ.get("CI_ENVIRONMENT_NAME", ""),
    )


def _is_of_merge_request(environ: Mapping[str, str]) -> bool:
    """Tell whether anything says so: a child pipeline has another source, but keeps the variables."""
    return environ.get("CI_PIPELINE_SOURCE") in _MERGE_REQUEST_SOURCES or any(
        name.startswith((_MERGE_REQUEST_PREFIX, _EXTERNAL_PREFIX)) and text for name, text in environ.items()
    )


def build_tag(pipeline: Pipeline) -> str:
    """Name the tag that each build gets at once, tested or not."""
    return f"p-{pipeline.id}"


def gate_tag(pipeline: Pipeline) -> str:
    """Name the tag that says that the tests passed."""
    return f"g-{pipeline.id}"


def tags_on_success(pipeline: Pipeline) -> tuple[str, ...]:
    """List the tags that an image gets when its tests have passed, the gate first.

    A git tag with a reserved name, such as `production`, gives none.

    Raises:
        PipelineError: the git tag is no valid tag of an image.
    """
    tags = [gate_tag(pipeline)]
    if pipeline.is_trial:
        return tuple(tags)
    if pipeline.kind == "branch" and pipeline.is_default_branch:
        tags.append(LATEST)
    if pipeline.kind == "tag" and not is_reserved(pipeline.ref):
        if not _TAG.fullmatch(pipeline.ref):
            raise PipelineError(
                f"the git tag {pipeline.ref!r} cannot name an image; use at most 128 letters, digits, "
                "'_', '.' and '-' in it"
            )
        tags.append(pipeline.ref)
    return tuple(tags)


def is_reserved(tag: str) -> bool:
    """Tell whether a tag has a meaning in the table, so that no git tag may give it."""
    return _RESERVED.fullmatch(tag) is not None


def deploys_to_production(pipeline: Pipeline) -> bool:
    """Tell whether the job's environment is `production`, or one of `production/*`."""
    return pipeline.environment == PRODUCTION or pipeline.environment.startswith(f"{PRODUCTION}/")


def deployment_tag(pipeline: Pipeline) -> str:
    """Name the tag that the job's deployment moves: `production`, or `mr-<iid>`.

    Whether the pipeline may do so is not decided here.

    Raises:
        PipelineError: the job deploys to nothing that has a tag.
    """
    if deploys_to_production(pipeline):
        return PRODUCTION
    if pipeline.kind == "merge-request":
        return f"mr-{pipeline.merge_request}"
    raise PipelineError(
        f"the job deploys to {pipeline.environment or 'no environment'!r}, which has no tag; "
        f"name its environment {PRODUCTION!r}, or deploy from a merge request"
    )


def digest_variable(image: str, platform: Platform | None = None) -> str:
    """Name the variable in which one job hands the digest of an image on to the next."""
    parts = [image, *([platform.architecture, platform.variant] if platform else [])]
    return "_".join(["IMAGE_DIGEST", *(_NO_WORD.sub("_", part.upper()) for part in parts if part)])


def architecture_tag(tag: str, platform: Platform) -> str:
    """Name the tag of one architecture's part; of variants, the usual one is not named.

    Raises:
        PipelineError: it would be too long.
    """
    usual = parse_platform(f"{platform.os}/{platform.architecture}")
    suffix = platform.architecture if platform == usual else f"{platform.architecture}-{platform.variant}"
    whole = f"{tag}-{suffix}"
    if not _TAG.fullmatch(whole):
        raise PipelineError(f"the tag {whole!r} is too long for an image; shorten the git tag")
    return whole
