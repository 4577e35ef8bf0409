"""What GitLab's API answers, as far as it is used. Unknown fields are passed over: GitLab adds more.

Sources: GitLab's `doc/api` (projects, pipelines, project_webhooks, container_registry, lint,
personal_access_tokens) and its OpenAPI description.
"""

from datetime import date, datetime
from typing import Literal

import msgspec


class Version(msgspec.Struct, frozen=True):
    """GitLab's own version: `19.6.0-ee`."""

    version: str
    revision: str = ""


class Token(msgspec.Struct, frozen=True):
    """The token in use."""

    id: int
    name: str = ""
    scopes: tuple[str, ...] = ()
    active: bool = True
    revoked: bool = False
    #: The first day on which it does not work any more.
    expires_at: date | None = None
    user_id: int | None = None


class Project(msgspec.Struct, frozen=True):
    """A project."""

    id: int
    path_with_namespace: str
    #: None: its repository is empty.
    default_branch: str | None = None
    archived: bool = False
    web_url: str = ""
    #: `<registry host>/<path>`; None where the instance has no registry, or in the simple form.
    container_registry_image_prefix: str | None = None


class Branch(msgspec.Struct, frozen=True):
    """A branch and its newest commit."""

    class Commit(msgspec.Struct, frozen=True):
        """The newest commit."""

        id: str

    name: str
    commit: Commit


class TreeEntry(msgspec.Struct, frozen=True):
    """A file or a folder of a repository."""

    path: str
    #: Of files, the blob's object id.
    id: str
    type: Literal["blob", "tree", "commit"]
    mode: str = ""


class Pipeline(msgspec.Struct, frozen=True):
    """A pipeline. Lists leave out the fields that have a default here."""

    id: int
    project_id: int
    status: str
    source: str
    ref: str
    sha: str
    created_at: datetime
    updated_at: datetime
    web_url: str = ""
    tag: bool = False
    started_at: datetime | None = None
    finished_at: datetime | None = None
    yaml_errors: str | None = None


class CurrentUser(msgspec.Struct, frozen=True):
    """Whose token it is."""

    id: int
    username: str


class Member(msgspec.Struct, frozen=True):
    """A user's role in a project."""

    id: int
    #: 10 Guest, 20 Reporter, 30 Developer, 40 Maintainer, 50 Owner.
    access_level: int
    state: str = "active"


class Note(msgspec.Struct, frozen=True):
    """A comment."""

    class Author(msgspec.Struct, frozen=True):
        """Who wrote it."""

        id: int

    id: int
    body: str
    author: Author
    #: Written by GitLab itself.
    system: bool = False
    internal: bool = False


class CommitComment(msgspec.Struct, frozen=True):
    """A comment on a commit; it has no id."""

    note: str


class MergeRequest(msgspec.Struct, frozen=True):
    """A merge request."""

    class HeadPipeline(msgspec.Struct, frozen=True):
        """The newest pipeline of its newest commit."""

        id: int

    iid: int
    #: `opened`, `closed`, `merged`, `locked`.
    state: str
    #: None: the fork is gone.
    source_project_id: int | None = None
    head_pipeline: HeadPipeline | None = None


class Deployment(msgspec.Struct, frozen=True):
    """A deployment."""

    class Environment(msgspec.Struct, frozen=True):
        """Where to."""

        name: str

    id: int
    #: `created`, `running`, `success`, `failed`, `canceled`, ...
    status: str
    ref: str
    sha: str
    environment: Environment


class Variable(msgspec.Struct, frozen=True):
    """A variable that a pipeline was given."""

    key: str
    value: str
    variable_type: str = "env_var"


class Hook(msgspec.Struct, frozen=True):
    """A webhook of a project. Its secrets are never shown."""

    id: int
    url: str
    project_id: int | None = None
    push_events: bool = False
    tag_push_events: bool = False
    merge_requests_events: bool = False
    note_events: bool = False
    job_events: bool = False
    pipeline_events: bool = False
    deployment_events: bool = False
    releases_events: bool = False
    enable_ssl_verification: bool = True
    #: `executable`, `temporarily_disabled`, `disabled`; empty where the instance does not tell.
    alert_status: str = ""
    disabled_until: datetime | None = None
    #: None: GitLab before 19.0 does not tell.
    token_present: bool | None = None
    #: None: GitLab before 19.0 has no signing tokens, and passes over one that it is given.
    signing_token_present: bool | None = None


class LintInclude(msgspec.Struct, frozen=True):
    """A file that a CI configuration includes, also by way of another."""

    class Extra(msgspec.Struct, frozen=True):
        """More about files of other projects."""

        project: str | None = None
        ref: str | None = None

    type: str
    #: Path, name of the template, component, or URL.
    location: str | None = None
    extra: Extra | None = None
    #: The project whose file includes it.
    context_project: str | None = None


class Lint(msgspec.Struct, frozen=True):
    """What GitLab makes of a CI configuration."""

    valid: bool
    errors: tuple[str, ...] = ()
    #: The configuration with all includes, `extends` and `!reference` followed.
    merged_yaml: str | None = None
    includes: tuple[LintInclude, ...] | None = ()
