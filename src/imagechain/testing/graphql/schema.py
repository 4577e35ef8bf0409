"""The part of GitLab's GraphQL schema that is simulated: types, fields, arguments and what they cost.

Sources: GitLab's GraphQL reference; `app/graphql/types` and `app/graphql/resolvers` for which fields are
resolvers, connections, or ask Gitaly.
"""

import base64
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import msgspec

from imagechain.testing import payloads
from imagechain.testing.git import Entry, folder_entries
from imagechain.testing.graphql.language import EnumName, Field, QueryError
from imagechain.testing.state import State
from imagechain.testing.times import iso_seconds, read_time
from imagechain.testing.values import Commit, File, Group, Pipeline, Project, Role, User

PAGE_ROWS_MAX = 100
BLOBS_BYTES_MAX = 20 * 1024 * 1024
_DATA_FIELDS = frozenset({"rawBlob", "base64EncodedBlob", "rawTextBlob", "plainData"})


class Context(msgspec.Struct, kw_only=True):
    """Who asks, and what has gone wrong so far."""

    state: State
    user: User | None
    score: int = 0
    errors: list[dict[str, Any]] = []


class FieldError(Exception):
    """A field that cannot be answered: it is null, and the rest is answered."""


Arguments = Mapping[str, Any]
Resolve = Callable[[Context, Any, Arguments, Field], Any]


class FieldType(msgspec.Struct, frozen=True, kw_only=True):
    """A field of a type."""

    resolve: Resolve
    #: Type of what it answers; empty for plain values.
    type: str = ""
    #: Argument -> its GraphQL type.
    arguments: Mapping[str, str] = {}
    gitaly: bool = False
    #: What its resolver costs besides its children; None: it is no resolver.
    resolver: Callable[[Arguments], int] | None = None
    connection: bool = False
    is_list: bool = False


_PROJECT_PREFIX = "gid://gitlab/Project/"
_PAGING = {"first": "Int", "last": "Int", "after": "String", "before": "String"}


def _plain(read: Callable[[Any], Any], *, gitaly: bool = False) -> FieldType:
    return FieldType(resolve=lambda _context, found, _arguments, _field: read(found), gitaly=gitaly)


def _cost(arguments: Arguments) -> int:
    """Compute what every resolver costs."""
    return 1 + (1 if arguments.get("sort") else 0) + (5 if arguments.get("search") else 0)


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """A page of a connection."""

    nodes: list[Any]
    count: int
    start: str | None
    end: str | None
    has_next: bool
    has_previous: bool


def _cursor(key: object) -> str:
    return base64.b64encode(json.dumps({"id": str(key)}).encode()).decode()


def _read_cursor(cursor: str) -> str | None:
    try:
        data = json.loads(base64.b64decode(cursor))
    except ValueError:
        return None
    return data.get("id") if isinstance(data, dict) else None


def paginate(rows: Sequence[Any], arguments: Arguments, key: Callable[[Any], object]) -> Page:
    """Cut a page out of all rows: at most 100, after a cursor."""
    if arguments.get("last") is not None or arguments.get("before") is not None:
        raise QueryError("the simulated GitLab pages forwards only: use first and after")
    first = arguments.get("first")
    if first is not None and first < 0:
        raise QueryError("first must not be negative")
    size = PAGE_ROWS_MAX if first is None else min(first, PAGE_ROWS_MAX)
    start = 0
    if (after := arguments.get("after")) is not None:
        wanted = _read_cursor(after)
        start = next((at for at, row in enumerate(rows, 1) if str(key(row)) == wanted), 0)
        if not start:
            raise FieldError("Invalid cursor")
    nodes = list(rows[start : start + size])
    return Page(
        nodes=nodes,
        count=len(rows),
        start=_cursor(key(nodes[0])) if nodes else None,
        end=_cursor(key(nodes[-1])) if nodes else None,
        has_next=start + size < len(rows),
        has_previous=start > 0,
    )


# --- records that exist only here


class _Repository(msgspec.Struct, frozen=True):
    project: Project


class _Tree(msgspec.Struct, frozen=True):
    commit: Commit | None
    entries: list[Entry]


class _Blob(msgspec.Struct, frozen=True):
    project: Project
    commit: Commit
    path: str
    file: File


# --- resolvers


def _group(context: Context, _: object, arguments: Arguments, __: Field) -> Group | None:
    group = context.state.find_group(arguments["fullPath"])
    if group is None or (group.visibility == "private" and not context.state.sees_group(context.user, group)):
        return None
    return group


def _project(context: Context, _: object, arguments: Arguments, __: Field) -> Project | None:
    project = context.state.find_project(arguments["fullPath"])
    return project if project is not None and context.state.may_see(context.user, project) else None


def _projects(context: Context, group: Group, arguments: Arguments, _: Field) -> Page:
    prefix = group.full_path + "/"
    below = arguments.get("includeSubgroups", False)
    search = (arguments.get("search") or "").lower()
    # Roles are inherited: who has one in the group sees all below it.
    sees_all = context.state.group_role(context.user, group) > Role.NONE
    rows = [
        project
        for project in _candidates(context, arguments.get("ids"))
        if (project.full_path.startswith(prefix) if below else project.group == group.id)
        and (arguments.get("includeArchived", True) or not project.archived)
        and not (arguments.get("notAimedForDeletion", False) and project.deletion_scheduled)
        and search in project.name.lower()
        and (sees_all or context.state.may_see(context.user, project))
    ]
    rows.sort(key=lambda project: -project.id)
    return paginate(rows, arguments, lambda project: project.id)


def _candidates(context: Context, ids: Iterable[str] | None) -> Iterable[Project]:
    """Give the projects of these ids, or all."""
    projects = context.state.projects
    if ids is None:
        return projects.values()
    numbers = {text for one in ids if (text := one.removeprefix(_PROJECT_PREFIX)).isdecimal()}
    return [projects[number] for number in map(int, numbers) if number in projects]


def _project_id(project: Project) -> str:
    return f"{_PROJECT_PREFIX}{project.id}"


def _repository(context: Context, project: Project, _: Arguments, __: Field) -> _Repository | None:
    """Show the repository to those who may read code; for others it is null, which is no error."""
    if context.state.visible_role(context.user, project) < Role.REPORTER:
        return None
    return _Repository(project)


def _tree(_: Context, repository: _Repository, arguments: Arguments, __: Field) -> _Tree | None:
    project = repository.project
    if project.default_branch is None:
        return None
    commit = project.resolve(arguments.get("ref") or "HEAD")
    if commit is None:
        return _Tree(None, [])
    found = folder_entries(
        commit.files, arguments.get("path") or "", recursive=bool(arguments.get("recursive", False))
    )
    return _Tree(commit, list(found or ()))


def _entries(kind: str) -> Resolve:
    def resolve(_: Context, tree: _Tree, arguments: Arguments, __: Field) -> Page:
        rows = [entry for entry in tree.entries if entry.type == kind]
        return paginate(rows, arguments, lambda entry: entry.path)

    return resolve


def _blobs(_: Context, repository: _Repository, arguments: Arguments, field: Field) -> Page:
    project = repository.project
    paths = list(dict.fromkeys(arguments["paths"]))
    commit = project.resolve(arguments.get("ref") or "HEAD")
    rows: list[_Blob] = []
    if commit is not None:
        rows = [_Blob(project, commit, path, commit.files[path]) for path in paths if path in commit.files]
    nodes = next((part for part in field.fields if part.name == "nodes"), None)
    with_data = nodes is not None and any(part.name in _DATA_FIELDS for part in nodes.fields)
    size = sum(len(blob.file.content) for blob in rows)
    if len(paths) > 1 and with_data and size > BLOBS_BYTES_MAX:
        megabyte = 1024 * 1024
        raise FieldError(
            f"Max blobs size limit exceeded ({size // megabyte} MB / {BLOBS_BYTES_MAX // megabyte} MB)."
        )
    return paginate(rows, arguments, lambda blob: blob.path)


def _text(blob: _Blob) -> str | None:
    """Show a text; a binary file is null."""
    if b"\0" in blob.file.content:
        return None
    try:
        return blob.file.content.decode()
    except UnicodeDecodeError:
        return None


def _pipelines(context: Context, project: Project, arguments: Arguments, _: Field) -> Page:
    rows = [item for item in project.pipelines.values() if item.source != "parent_pipeline"]
    for name in ("ref", "sha", "source"):
        if (wanted := arguments.get(name)) is not None:
            rows = [item for item in rows if getattr(item, name) == wanted]
    if (status := arguments.get("status")) is not None:
        wanted = status.name if isinstance(status, EnumName) else status
        rows = [item for item in rows if item.status.upper() == wanted]
    try:
        after = read_time(arguments["updatedAfter"]) if arguments.get("updatedAfter") else None
        before = read_time(arguments["updatedBefore"]) if arguments.get("updatedBefore") else None
    except (ValueError, TypeError) as error:
        raise QueryError("Variable of type Time was provided invalid value") from error
    rows = [
        item
        for item in rows
        if (after is None or item.updated_at > after) and (before is None or item.updated_at < before)
    ]
    rows.sort(key=lambda item: -item.id)
    if context.state.visible_role(context.user, project) < Role.REPORTER:
        rows = []
    return paginate(rows, arguments, lambda item: item.id)


def _ref_path(pipeline: Pipeline) -> str:
    if pipeline.merge_request is not None:
        return pipeline.ref
    return f"refs/{'tags' if pipeline.tag else 'heads'}/{pipeline.ref}"


def _pipeline_path(context: Context, pipeline: Pipeline, _: Arguments, __: Field) -> str:
    return f"/{context.state.projects[pipeline.project].full_path}/-/pipelines/{pipeline.id}"


def _time(at: float | None) -> str | None:
    return None if at is None else iso_seconds(at)


def _web_url(context: Context, project: Project, _: Arguments, __: Field) -> str:
    return payloads.web_url(context.state, project)


def _connection(node: str) -> dict[str, FieldType]:
    return {
        "nodes": FieldType(resolve=lambda _c, page, _a, _f: page.nodes, type=node, is_list=True),
        "pageInfo": FieldType(resolve=lambda _c, page, _a, _f: page, type="PageInfo"),
        "count": _plain(lambda page: page.count),
    }


TYPES: Mapping[str, Mapping[str, FieldType]] = {
    "Query": {
        "group": FieldType(resolve=_group, type="Group", arguments={"fullPath": "ID!"}, resolver=lambda _: 1),
        "project": FieldType(
            resolve=_project, type="Project", arguments={"fullPath": "ID!"}, resolver=lambda _: 1
        ),
        "currentUser": FieldType(resolve=lambda context, _f, _a, _s: context.user, type="CurrentUser"),
        "metadata": FieldType(resolve=lambda context, _f, _a, _s: context.state, type="Metadata"),
        "queryComplexity": FieldType(resolve=lambda context, _f, _a, _s: context, type="QueryComplexity"),
    },
    "QueryComplexity": {
        "score": _plain(lambda context: context.score),
        "limit": FieldType(resolve=lambda context, _f, _a, _s: complexity_max(context.user)),
    },
    "Metadata": {"version": _plain(lambda state: state.settings.version)},
    "CurrentUser": {
        "id": _plain(lambda user: f"gid://gitlab/User/{user.id}"),
        "username": _plain(lambda user: user.username),
        "name": _plain(lambda user: user.name),
    },
    "PageInfo": {
        "hasNextPage": _plain(lambda page: page.has_next),
        "hasPreviousPage": _plain(lambda page: page.has_previous),
        "startCursor": _plain(lambda page: page.start),
        "endCursor": _plain(lambda page: page.end),
    },
    "Group": {
        "id": _plain(lambda group: f"gid://gitlab/Group/{group.id}"),
        "name": _plain(lambda group: group.name),
        "fullPath": _plain(lambda group: group.full_path),
        "projects": FieldType(
            resolve=_projects,
            type="ProjectConnection",
            arguments={
                **_PAGING,
                "includeSubgroups": "Boolean",
                "includeArchived": "Boolean",
                "notAimedForDeletion": "Boolean",
                "search": "String",
                "sort": "NamespaceProjectSort",
                "ids": "[ID!]",
            },
            resolver=lambda arguments: _cost(arguments) + 10,
            connection=True,
        ),
    },
    "Project": {
        "id": _plain(_project_id),
        "name": _plain(lambda project: project.name),
        "path": _plain(lambda project: project.path),
        "fullPath": _plain(lambda project: project.full_path),
        "archived": _plain(lambda project: project.archived),
        "visibility": _plain(lambda project: project.visibility),
        "description": _plain(lambda project: project.description),
        "webUrl": FieldType(resolve=_web_url),
        "lastActivityAt": _plain(lambda project: iso_seconds(project.last_activity_at)),
        "createdAt": _plain(lambda project: iso_seconds(project.created_at)),
        "ciConfigPathOrDefault": _plain(lambda project: project.ci_config_path or ".gitlab-ci.yml"),
        "repository": FieldType(resolve=_repository, type="Repository"),
        "pipelines": FieldType(
            resolve=_pipelines,
            type="PipelineConnection",
            arguments={
                **_PAGING,
                "status": "PipelineStatusEnum",
                "ref": "String",
                "sha": "String",
                "source": "String",
                "updatedAfter": "Time",
                "updatedBefore": "Time",
            },
            resolver=lambda given: _cost(given) + 2 * sum(bool(given.get(name)) for name in ("sha", "ref")),
            connection=True,
        ),
    },
    "Repository": {
        "rootRef": _plain(lambda repository: repository.project.default_branch, gitaly=True),
        "empty": _plain(lambda repository: repository.project.default_branch is None, gitaly=True),
        "exists": _plain(lambda _: True, gitaly=True),
        "tree": FieldType(
            resolve=_tree,
            type="Tree",
            arguments={"path": "String", "ref": "String", "refType": "RefType", "recursive": "Boolean"},
            gitaly=True,
            resolver=_cost,
        ),
        "blobs": FieldType(
            resolve=_blobs,
            type="BlobConnection",
            arguments={**_PAGING, "paths": "[String!]!", "ref": "String", "refType": "RefType"},
            gitaly=True,
            resolver=lambda arguments: _cost(arguments) + len(arguments["paths"]),
            connection=True,
        ),
    },
    "Tree": {
        "lastCommit": FieldType(
            resolve=lambda _c, tree, _a, _f: tree.commit, type="Commit", gitaly=True, resolver=_cost
        ),
        "blobs": FieldType(
            resolve=_entries("blob"), type="TreeEntryConnection", arguments=_PAGING, gitaly=True
        ),
        "trees": FieldType(resolve=_entries("tree"), type="TreeEntryConnection", arguments=_PAGING),
    },
    "Commit": {
        "id": _plain(lambda commit: f"gid://gitlab/CommitPresenter/{commit.sha}"),
        "sha": _plain(lambda commit: commit.sha),
        "title": _plain(lambda commit: commit.title),
        "committedDate": _plain(lambda commit: iso_seconds(commit.created_at)),
    },
    "TreeEntry": {
        "id": _plain(lambda entry: f"gid://gitlab/Gitlab::Graphql::Representation::TreeEntry/{entry.id}"),
        "sha": _plain(lambda entry: entry.id),
        "name": _plain(lambda entry: entry.name),
        "path": _plain(lambda entry: entry.path),
        "flatPath": _plain(lambda entry: entry.path),
        "type": _plain(lambda entry: entry.type),
        "mode": _plain(lambda entry: entry.mode.lstrip("0")),
    },
    "Blob": {
        "id": _plain(lambda blob: f"gid://gitlab/Gitlab::Git::Blob/{blob.file.blob}"),
        "oid": _plain(lambda blob: blob.file.blob),
        "path": _plain(lambda blob: blob.path),
        "name": _plain(lambda blob: blob.path.rpartition("/")[2]),
        "mode": _plain(lambda blob: "100755" if blob.file.executable else "100644"),
        # A BigInt, which travels as a text.
        "size": _plain(lambda blob: str(len(blob.file.content))),
        "rawSize": _plain(lambda blob: len(blob.file.content)),
        "lfsOid": _plain(lambda _: None),
        "rawBlob": _plain(lambda blob: blob.file.content.decode(errors="replace")),
        "rawTextBlob": _plain(_text),
        "base64EncodedBlob": _plain(lambda blob: base64.b64encode(blob.file.content).decode()),
    },
    "Pipeline": {
        "id": _plain(lambda item: f"gid://gitlab/Ci::Pipeline/{item.id}"),
        "iid": _plain(lambda item: str(item.iid)),
        "sha": _plain(lambda item: item.sha),
        "ref": _plain(lambda item: item.ref),
        "refPath": _plain(_ref_path),
        "path": FieldType(resolve=_pipeline_path),
        "name": _plain(lambda item: item.name),
        "source": _plain(lambda item: item.source),
        "status": _plain(lambda item: item.status.upper()),
        "createdAt": _plain(lambda item: _time(item.created_at)),
        "updatedAt": _plain(lambda item: _time(item.updated_at)),
        "startedAt": _plain(lambda item: _time(item.started_at)),
        "finishedAt": _plain(lambda item: _time(item.finished_at)),
    },
    **{f"{node}Connection": _connection(node) for node in ("Project", "Pipeline", "Blob", "TreeEntry")},
}


def complexity_max(user: User | None) -> int:
    """Tell how complex a query may be."""
    return 200 if user is None else 300 if user.admin else 250
