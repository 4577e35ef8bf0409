"""The records of the simulated GitLab: plain values that the parts and the scripts of tests work on.

What changes over time (a pipeline's status, a hook's failures) is a plain record; what never changes (a
commit, a file) is frozen. Field names and statuses are GitLab's own.
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import Any, Literal

import msgspec

#: Decoded JSON, as it travels over HTTP.
Json = dict[str, Any]


class Role(IntEnum):
    """A member's role, with GitLab's own numbers."""

    NONE = 0
    GUEST = 10
    REPORTER = 20
    DEVELOPER = 30
    MAINTAINER = 40
    OWNER = 50


Visibility = Literal["private", "internal", "public"]
Status = Literal[
    "created",
    "waiting_for_resource",
    "preparing",
    "pending",
    "running",
    "success",
    "failed",
    "canceling",
    "canceled",
    "skipped",
    "manual",
    "scheduled",
]
#: Statuses that end a pipeline or a job.
FINISHED: frozenset[Status] = frozenset({"success", "failed", "canceled", "skipped"})
#: How many commits back a branch has none: the id that pushes name for "nothing".
NO_COMMIT = "0" * 40


class User(msgspec.Struct, frozen=True, kw_only=True):
    """A person or a bot."""

    id: int
    username: str
    name: str
    admin: bool = False
    bot: bool = False


class Token(msgspec.Struct, kw_only=True):
    """An access token of a user."""

    id: int
    user: int
    value: str
    name: str
    scopes: tuple[str, ...]
    created_at: float
    #: Unix time; None: does not expire.
    expires_at: float | None = None
    revoked: bool = False


class Group(msgspec.Struct, kw_only=True):
    """A group or a subgroup."""

    id: int
    path: str
    name: str
    full_path: str
    parent: int | None
    visibility: Visibility
    #: Roles by user id; they hold for everything below, too.
    members: dict[int, Role] = {}


class File(msgspec.Struct, frozen=True, kw_only=True):
    """A file of a commit."""

    content: bytes
    #: git's own id of the content.
    blob: str
    executable: bool = False


class Commit(msgspec.Struct, frozen=True, kw_only=True):
    """A commit with its whole tree."""

    sha: str
    parents: tuple[str, ...]
    message: str
    author: User
    created_at: float
    files: Mapping[str, File]
    #: git's own id of the top folder.
    tree: str

    @property
    def title(self) -> str:
        """The first line of the message."""
        return self.message.partition("\n")[0]


class RefChange(msgspec.Struct, frozen=True, kw_only=True):
    """What a push did to a branch or a tag."""

    ref: str
    before: str
    after: str
    #: The new commits, the oldest first.
    commits: tuple[Commit, ...] = ()


class Variable(msgspec.Struct, frozen=True, kw_only=True):
    """A variable of a pipeline, a schedule or a project."""

    key: str
    value: str
    variable_type: str = "env_var"


class JobPlan(msgspec.Struct, frozen=True, kw_only=True):
    """What the CI configuration says about a job."""

    name: str
    stage: str
    script: tuple[str, ...] = ()
    after_script: tuple[str, ...] = ()
    image: str | None = None
    services: tuple[str, ...] = ()
    when: str = "on_success"
    allow_failure: bool = False
    tags: tuple[str, ...] = ()
    environment: str | None = None
    variables: Mapping[str, str] = {}
    #: `artifacts:` as written; None: the job has none.
    artifacts: Mapping[str, Any] | None = None
    #: Jobs whose artifacts it gets (`dependencies:`); None: those of all earlier stages.
    dependencies: tuple[str, ...] | None = None
    #: `trigger:`: a project to start a pipeline in, or `./file` of a child pipeline. None: an ordinary job.
    trigger: str | None = None


class Artifact(msgspec.Struct, frozen=True, kw_only=True):
    """A file that a runner uploaded for a job."""

    #: `archive`, `metadata`, `trace`, `junit`, ...
    type: str
    format: str
    filename: str
    content: bytes


class Job(msgspec.Struct, kw_only=True):
    """A job, or a bridge to another pipeline."""

    id: int
    pipeline: int
    project: int
    plan: JobPlan
    user: int
    created_at: float
    status: Status = "created"
    queued_at: float | None = None
    started_at: float | None = None
    finished_at: float | None = None
    failure_reason: str | None = None
    #: Whether a retry took its place.
    retried: bool = False
    #: The runner that has it, for the coordinator.
    runner: int | None = None
    token: str = ""
    trace: bytearray = msgspec.field(default_factory=bytearray)
    #: By type.
    artifacts: dict[str, Artifact] = {}
    #: Id of the pipeline that a bridge started.
    downstream: int | None = None


class Pipeline(msgspec.Struct, kw_only=True):
    """A pipeline."""

    id: int
    iid: int
    project: int
    ref: str
    sha: str
    before_sha: str
    source: str
    user: int
    created_at: float
    updated_at: float
    tag: bool = False
    name: str | None = None
    status: Status = "created"
    variables: tuple[Variable, ...] = ()
    inputs: Mapping[str, Any] = {}
    yaml_errors: str | None = None
    started_at: float | None = None
    finished_at: float | None = None
    jobs: list[Job] = []
    merge_request: int | None = None
    #: The job of another pipeline that started it.
    source_job: Job | None = None

    @property
    def latest_jobs(self) -> list[Job]:
        """Its jobs without those that were retried."""
        return [job for job in self.jobs if not job.retried]


class HookEvent(msgspec.Struct, frozen=True, kw_only=True):
    """One call of a hook, as its log keeps it."""

    id: int
    hook: int
    at: float
    url: str
    trigger: str
    request_headers: Mapping[str, str]
    request_data: Json
    response_headers: Mapping[str, str]
    response_body: str
    #: A status code, or `internal error`.
    response_status: str
    seconds: float


class Hook(msgspec.Struct, kw_only=True):
    """A webhook of a project, of a group, or of the whole instance (a system hook)."""

    id: int
    url: str
    created_at: float
    project: int | None = None
    group: int | None = None
    name: str | None = None
    description: str | None = None
    #: `push_events` and so on: those that are on.
    events: frozenset[str] = frozenset({"push_events"})
    enable_ssl_verification: bool = True
    push_events_branch_filter: str = ""
    branch_filter_strategy: str = "wildcard"
    custom_webhook_template: str | None = None
    custom_headers: dict[str, str] = {}
    url_variables: dict[str, str] = {}
    token: str = ""
    signing_token: str = ""
    recent_failures: int = 0
    disabled_until: float | None = None
    log: list[HookEvent] = []


class Schedule(msgspec.Struct, kw_only=True):
    """A pipeline schedule."""

    id: int
    project: int
    owner: int
    description: str
    ref: str
    cron: str
    created_at: float
    updated_at: float
    cron_timezone: str = "UTC"
    active: bool = True
    next_run_at: float | None = None
    variables: dict[str, Variable] = {}
    inputs: dict[str, Any] = {}
    pipelines: list[int] = []


class Trigger(msgspec.Struct, kw_only=True):
    """A trigger token."""

    id: int
    project: int
    owner: int
    description: str
    token: str
    created_at: float


class Environment(msgspec.Struct, kw_only=True):
    """A place that deployments go to."""

    id: int
    name: str
    created_at: float
    tier: str
    external_url: str | None = None
    state: str = "available"


class Deployment(msgspec.Struct, kw_only=True):
    """A deployment to an environment."""

    id: int
    iid: int
    project: int
    environment: str
    ref: str
    sha: str
    tag: bool
    user: int
    status: str
    created_at: float
    updated_at: float
    finished_at: float | None = None


class Note(msgspec.Struct, kw_only=True):
    """A comment of a merge request."""

    id: int
    author: int
    body: str
    created_at: float
    updated_at: float
    internal: bool = False
    system: bool = False


class MergeRequest(msgspec.Struct, kw_only=True):
    """A merge request within one project."""

    id: int
    iid: int
    project: int
    title: str
    description: str
    source_branch: str
    target_branch: str
    author: int
    created_at: float
    updated_at: float
    state: str = "opened"
    merged_at: float | None = None
    merge_commit_sha: str | None = None
    notes: dict[int, Note] = {}


class RegistryTag(msgspec.Struct, frozen=True, kw_only=True):
    """A tag of a registry repository."""

    name: str
    digest: str
    #: Digest of the image's configuration, without `sha256:`.
    revision: str
    created_at: float
    total_size: int = 0


class RegistryRepository(msgspec.Struct, kw_only=True):
    """A repository of the container registry, at the project's path or below it."""

    id: int
    project: int
    #: Below the project's path; empty for the project's path itself.
    name: str
    created_at: float
    tags: dict[str, RegistryTag] = {}


class Project(msgspec.Struct, kw_only=True):
    """A project with everything that belongs to it."""

    id: int
    path: str
    name: str
    full_path: str
    group: int
    visibility: Visibility
    created_at: float
    last_activity_at: float
    description: str = ""
    archived: bool = False
    deletion_scheduled: bool = False
    #: None while the repository is empty.
    default_branch: str | None = None
    commits: dict[str, Commit] = {}
    branches: dict[str, str] = {}
    tags: dict[str, str] = {}
    protected_branches: set[str] = set()
    members: dict[int, Role] = {}
    shared_with: set[int] = set()
    ci_config_path: str | None = None
    ci_enabled: bool = True
    #: `ci_pipeline_variables_minimum_override_role`: developer, maintainer, owner or no_one_allowed.
    pipeline_variables_role: str = "developer"
    variables: dict[str, Variable] = {}
    pipelines: dict[int, Pipeline] = {}
    schedules: dict[int, Schedule] = {}
    triggers: dict[int, Trigger] = {}
    environments: dict[int, Environment] = {}
    deployments: dict[int, Deployment] = {}
    merge_requests: dict[int, MergeRequest] = {}
    #: By the id of the commit.
    commit_comments: dict[str, list[str]] = {}
    registry: dict[int, RegistryRepository] = {}

    @property
    def head(self) -> Commit | None:
        """The newest commit of the default branch."""
        if self.default_branch is None:
            return None
        return self.commits[self.branches[self.default_branch]]

    def resolve(self, ref: str) -> Commit | None:
        """Find the commit that a branch, a tag, a full id or `HEAD` stands for."""
        if ref == "HEAD":
            return self.head
        if ref.startswith("refs/merge-requests/"):
            merge_request = self.merge_requests.get(int(ref.split("/")[2]))
            return None if merge_request is None else self.resolve(merge_request.source_branch)
        if ref.startswith("refs/heads/"):
            sha = self.branches.get(ref.removeprefix("refs/heads/"))
        elif ref.startswith("refs/tags/"):
            sha = self.tags.get(ref.removeprefix("refs/tags/"))
        else:
            sha = self.branches.get(ref) or self.tags.get(ref) or ref
        return None if sha is None else self.commits.get(sha)


class SimulationError(Exception):
    """A script asked the simulated GitLab for something that cannot be; the message says what."""
