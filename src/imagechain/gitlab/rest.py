"""The calls of GitLab's REST API that are used, each as a `Call`.

Sources: GitLab's `doc/api/{groups,projects,branches,repositories,repository_files,pipelines,project_webhooks,
container_registry,lint,version,personal_access_tokens}.md`; scopes and roles from `doc/user/permissions.md`.
A project is named by its number or its path; numbers survive a renaming.
"""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Literal, TypeVar

import msgspec

from imagechain.gitlab.call import PAGE_ROWS_MAX, Call, Needs, Role, quoted
from imagechain.gitlab.values import (
    Branch,
    Hook,
    Lint,
    Pipeline,
    Project,
    Token,
    TreeEntry,
    Variable,
    Version,
)

Value = TypeVar("Value")
ProjectId = int | str
HookEvent = Literal[
    "push_events",
    "tag_push_events",
    "merge_requests_events",
    "note_events",
    "job_events",
    "pipeline_events",
    "deployment_events",
    "releases_events",
]
HOOK_EVENTS: tuple[HookEvent, ...] = (
    "push_events",
    "tag_push_events",
    "merge_requests_events",
    "note_events",
    "job_events",
    "pipeline_events",
    "deployment_events",
    "releases_events",
)

#: As the API numbers them.
_ROLES: Mapping[Role, str] = {"Reporter": "20", "Developer": "30", "Maintainer": "40", "Owner": "50"}
_READ = Needs("read_api", "Reporter")
_RUN = Needs("api", "Developer")
_PAGE = ("per_page", str(PAGE_ROWS_MAX))

_version = msgspec.json.Decoder(Version).decode
_token = msgspec.json.Decoder(Token).decode
_project = msgspec.json.Decoder(Project).decode
_projects = msgspec.json.Decoder(tuple[Project, ...]).decode
_branch = msgspec.json.Decoder(Branch).decode
_tree = msgspec.json.Decoder(tuple[TreeEntry, ...]).decode
_lint = msgspec.json.Decoder(Lint).decode
_pipeline = msgspec.json.Decoder(Pipeline).decode
_pipelines = msgspec.json.Decoder(tuple[Pipeline, ...]).decode
_variables = msgspec.json.Decoder(tuple[Variable, ...]).decode
_hook = msgspec.json.Decoder(Hook).decode
_hooks = msgspec.json.Decoder(tuple[Hook, ...]).decode


def _bytes(body: bytes) -> bytes:
    return body


def _nothing(_: bytes) -> None:
    """Pass over an answer that says nothing but that it worked."""


def _get(
    path: str,
    decode: Callable[[bytes], Value],
    about: str,
    *params: tuple[str, str],
    needs: Needs = _READ,
    answer_bytes_max: int = 64 * 1024 * 1024,
) -> Call[Value]:
    return Call(
        method="GET",
        path=f"/api/v4{path}",
        decode=decode,
        needs=needs,
        about=about,
        params=params,
        answer_bytes_max=answer_bytes_max,
    )


def _of(project: ProjectId, path: str = "") -> str:
    return f"/projects/{quoted(project)}{path}"


# --- the instance ---------------------------------------------------------------------------------------


def version() -> Call[Version]:
    """Ask for GitLab's own version."""
    return _get("/version", _version, "GitLab's version")


def current_token() -> Call[Token]:
    """Ask what the token may, and until when."""
    return _get("/personal_access_tokens/self", _token, "the token")


# --- projects and files ---------------------------------------------------------------------------------


def member_projects(least: Role = "Maintainer") -> Call[tuple[Project, ...]]:
    """List the projects in which the token's user has a role, or a higher one; archived ones too."""
    return _get(
        "/projects",
        _projects,
        f"the projects in which the token's user is a {least}",
        ("membership", "true"),
        ("min_access_level", _ROLES[least]),
        ("simple", "true"),
        ("pagination", "keyset"),
        ("order_by", "id"),
        ("sort", "asc"),
        _PAGE,
    )


def project(project: ProjectId) -> Call[Project]:
    """Ask for one project."""
    return _get(_of(project), _project, f"the project {project}")


def branch(project: ProjectId, branch: str) -> Call[Branch]:
    """Ask for a branch and its newest commit."""
    path = _of(project, f"/repository/branches/{quoted(branch)}")
    return _get(path, _branch, f"the branch {branch} of {project}")


def tree(project: ProjectId, ref: str) -> Call[tuple[TreeEntry, ...]]:
    """List all files of a repository at once, whatever its size."""
    return _get(
        _of(project, "/repository/tree"),
        _tree,
        f"the files of {project}",
        ("ref", ref),
        ("recursive", "true"),
        ("pagination", "none"),
    )


def raw_file(project: ProjectId, path: str, ref: str, *, bytes_max: int) -> Call[bytes]:
    """Read one file."""
    return _get(
        _of(project, f"/repository/files/{quoted(path)}/raw"),
        _bytes,
        f"the file {path} of {project}",
        ("ref", ref),
        answer_bytes_max=bytes_max,
    )


def lint(project: ProjectId, ref: str) -> Call[Lint]:
    """Ask for the CI configuration of a commit or branch with all that it includes."""
    about = f"the CI configuration of {project}"
    return _get(_of(project, "/ci/lint"), _lint, about, ("content_ref", ref), ("dry_run", "false"))


# --- pipelines ------------------------------------------------------------------------------------------


def pipelines(
    project: ProjectId,
    *,
    ref: str | None = None,
    updated_after: datetime | None = None,
    source: str | None = None,
    rows: int = PAGE_ROWS_MAX,
) -> Call[tuple[Pipeline, ...]]:
    """List pipelines; the latest first, or if `updated_after` is given, by the time of their last change.

    Child pipelines are left out, unless `source` is `parent_pipeline`.
    """
    params = [("per_page", str(rows))]
    if ref is not None:
        params.append(("ref", ref))
    if source is not None:
        params.append(("source", source))
    if updated_after is not None:
        params += [("updated_after", updated_after.isoformat()), ("order_by", "updated_at"), ("sort", "asc")]
    return _get(_of(project, "/pipelines"), _pipelines, f"the pipelines of {project}", *params)


def pipeline(project: ProjectId, pipeline: int) -> Call[Pipeline]:
    """Ask for one pipeline."""
    return _get(_of(project, f"/pipelines/{pipeline}"), _pipeline, f"pipeline {pipeline} of {project}")


def pipeline_variables(project: ProjectId, pipeline: int) -> Call[tuple[Variable, ...]]:
    """List the variables that a pipeline was given."""
    path = _of(project, f"/pipelines/{pipeline}/variables")
    return _get(path, _variables, f"the variables of pipeline {pipeline} of {project}")


class _NewPipeline(msgspec.Struct, frozen=True, omit_defaults=True):
    ref: str
    variables: tuple[Variable, ...] = ()
    inputs: Mapping[str, str] = {}


def create_pipeline(
    project: ProjectId,
    ref: str,
    *,
    variables: Mapping[str, str] | None = None,
    inputs: Mapping[str, str] | None = None,
) -> Call[Pipeline]:
    """Start a pipeline. Not repeated by itself: after a time-out, look first whether it was started."""
    given = tuple(Variable(key, value) for key, value in (variables or {}).items())
    return Call(
        method="POST",
        path=f"/api/v4{_of(project, '/pipeline')}",
        decode=_pipeline,
        needs=_RUN,
        about=f"starting a pipeline of {project} on {ref}",
        body=msgspec.json.encode(_NewPipeline(ref, given, inputs or {})),
        idempotent=False,
    )


# --- hooks ----------------------------------------------------------------------------------------------


class HookForm(msgspec.Struct, frozen=True, kw_only=True):
    """How a webhook is to be. All of it is sent each time: a change of the URL clears the secrets."""

    url: str
    events: frozenset[HookEvent]
    #: Empty: none.
    token: str = ""
    #: `whsec_` and 32 bytes in base64; GitLab before 19.0 passes over it.
    signing_token: str = ""
    enable_ssl_verification: bool = True


def _form(form: HookForm) -> bytes:
    fields: dict[str, str | bool] = {
        "url": form.url,
        "enable_ssl_verification": form.enable_ssl_verification,
        # `push_events` is on unless it is said to be off.
        **{event: event in form.events for event in HOOK_EVENTS},
    }
    if form.token:
        fields["token"] = form.token
    if form.signing_token:
        fields["signing_token"] = form.signing_token
    return msgspec.json.encode(fields)


class Owner(msgspec.Struct, frozen=True):
    """Whose webhooks are meant: those of a project, or of a group (only in the paid editions)."""

    kind: Literal["projects", "groups"]
    id: ProjectId

    def __str__(self) -> str:
        return f"the group {self.id}" if self.kind == "groups" else str(self.id)

    @property
    def needs(self) -> Needs:
        """What all calls about them need."""
        return Needs("api", "Owner" if self.kind == "groups" else "Maintainer")

    def path(self, below: str = "") -> str:
        """Give the path of a call."""
        return f"/{self.kind}/{quoted(self.id)}/hooks{below}"


def _owner(owner: Owner | ProjectId) -> Owner:
    return owner if isinstance(owner, Owner) else Owner("projects", owner)


def hooks(owner: Owner | ProjectId) -> Call[tuple[Hook, ...]]:
    """List the webhooks of a project or group."""
    owner = _owner(owner)
    return _get(owner.path(), _hooks, f"the webhooks of {owner}", _PAGE, needs=owner.needs)


def create_hook(owner: Owner | ProjectId, form: HookForm) -> Call[Hook]:
    """Add a webhook."""
    owner = _owner(owner)
    return Call(
        method="POST",
        path=f"/api/v4{owner.path()}",
        decode=_hook,
        needs=owner.needs,
        about=f"adding a webhook to {owner}",
        body=_form(form),
        idempotent=False,
    )


def update_hook(owner: Owner | ProjectId, hook: int, form: HookForm) -> Call[Hook]:
    """Set all of a webhook."""
    owner = _owner(owner)
    return Call(
        method="PUT",
        path=f"/api/v4{owner.path(f'/{hook}')}",
        decode=_hook,
        needs=owner.needs,
        about=f"changing webhook {hook} of {owner}",
        body=_form(form),
    )


def delete_hook(owner: Owner | ProjectId, hook: int) -> Call[None]:
    """Remove a webhook."""
    owner = _owner(owner)
    return Call(
        method="DELETE",
        path=f"/api/v4{owner.path(f'/{hook}')}",
        decode=_nothing,
        needs=owner.needs,
        about=f"removing webhook {hook} of {owner}",
    )


def test_hook(project: ProjectId, hook: int, event: HookEvent) -> Call[None]:
    """Let GitLab send a webhook of a project now, also a disabled one; success enables it again."""
    owner = _owner(project)
    return Call(
        method="POST",
        path=f"/api/v4{owner.path(f'/{hook}/test/{event}')}",
        decode=_nothing,
        needs=owner.needs,
        about=f"testing webhook {hook} of {owner}",
        idempotent=False,
    )
