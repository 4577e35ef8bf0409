"""The GraphQL calls that are used: facts of many projects in one request, within GitLab's limits.

GitLab bounds a query by its complexity (250 for a token), its text (10,000 characters), rows (100 a page)
and the time (30 s). The complexity is computed here as GitLab does (`app/graphql/types/base_field.rb`
and the resolvers of projects and blobs), to ask for as many projects at once as it allows.
Source of the limits: `doc/api/graphql/_index.md`, `app/graphql/gitlab_schema.rb`.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Generic, TypeVar

import msgspec

from imagechain.gitlab.call import PAGE_ROWS_MAX, Call, Needs
from imagechain.gitlab.errors import ContractError, NotFoundError, OverloadedError

Node = TypeVar("Node")

#: GitLab's limit for a token.
COMPLEXITY_MAX = 250
#: As much is used of it: versions of GitLab count a little differently.
COMPLEXITY_AIM = 225
#: Projects of one query that reads repositories: Gitaly is asked for each in turn, within 30 seconds in all.
BATCH_PROJECTS_MAX = 50
#: Pipelines of one project in one query. A reconcile wants those of some minutes, seldom more than one.
BATCH_PIPELINES_MAX = 10

_READ = Needs("read_api", "Reporter")
#: Which of a group's projects count.
_IN_USE = "includeArchived: false, notAimedForDeletion: true, after: $after"
_ID_PREFIX = "gid://gitlab/Project/"


# --- what is answered -----------------------------------------------------------------------------------


class PageInfo(msgspec.Struct, frozen=True, rename="camel"):
    """Whether a list goes on, and from where."""

    has_next_page: bool = False
    end_cursor: str | None = None


class Rows(msgspec.Struct, Generic[Node], frozen=True, rename="camel"):
    """One page of a list. A row is null where GitLab failed on it."""

    nodes: tuple[Node | None, ...]
    page_info: PageInfo = PageInfo()


class Commit(msgspec.Struct, frozen=True):
    """A commit."""

    sha: str


class Blob(msgspec.Struct, frozen=True):
    """A file of a tree."""

    path: str
    #: The blob's object id; GitLab calls it so.
    sha: str
    mode: str = ""


class Tree(msgspec.Struct, frozen=True, rename="camel"):
    """The tree of a branch; its commit is null where there is no such branch."""

    last_commit: Commit | None = None
    blobs: Rows[Blob] | None = None


class Content(msgspec.Struct, frozen=True, rename="camel"):
    """A file with its content."""

    path: str
    #: Bytes; GitLab writes it as a number, or as a text where it is large.
    size: int | str | None = None
    #: None: a binary file.
    raw_text_blob: str | None = None


class HeadNode(msgspec.Struct, frozen=True, rename="camel"):
    """A project with the newest commits of its branches."""

    id: str
    full_path: str
    archived: bool | None = None
    #: Path of the CI configuration; with `@group/project` in another project, or an URL.
    ci_config_path_or_default: str = ""
    #: `rootRef`, and the trees under the names that `heads` gives them. Null: the code may not be read.
    repository: dict[str, str | Tree | None] | None = None


class _TreeRepository(msgspec.Struct, frozen=True):
    tree: Tree | None = None


class TreeNode(msgspec.Struct, frozen=True):
    """A project with the files of a branch."""

    id: str
    repository: _TreeRepository | None = None


class _BlobsRepository(msgspec.Struct, frozen=True):
    blobs: Rows[Content] | None = None


class ContentsNode(msgspec.Struct, frozen=True):
    """A project with the contents of some files."""

    id: str
    repository: _BlobsRepository | None = None


class PipelineNode(msgspec.Struct, frozen=True, rename="camel"):
    """A pipeline. Statuses are written in capitals here, and in small letters in the REST API."""

    id: str
    status: str
    ref: str | None
    sha: str | None
    source: str | None
    created_at: datetime
    updated_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    #: `refs/heads/...`, `refs/tags/...`, `refs/merge-requests/...`.
    ref_path: str | None = None
    #: Path of its page on the server.
    path: str | None = None


class PipelinesNode(msgspec.Struct, frozen=True):
    """A project with its latest pipelines."""

    id: str
    pipelines: Rows[PipelineNode] | None = None


# --- what is asked --------------------------------------------------------------------------------------


def heads(group: str, after: str | None, rows: int, branches: Sequence[str]) -> Call[Rows[HeadNode]]:
    """List a group's projects with the newest commit of the default branch and of some others.

    The tree of the default branch is called `tree`, those of `branches` `b0`, `b1`, and so on.
    """
    aliases = "".join(f" b{i}: tree(ref: $b{i}) {{ lastCommit {{ sha }} }}" for i in range(len(branches)))
    trees_of_branches = f"tree {{ lastCommit {{ sha }} }}{aliases}"
    fields = f"fullPath archived ciConfigPathOrDefault repository {{ rootRef {trees_of_branches} }}"
    return _projects(
        HeadNode,
        f"the projects of the group {group}",
        fields,
        variables={"group": group, "n": rows, "after": after}
        | {f"b{i}": name for i, name in enumerate(branches)},
        kinds={"after": "String"} | {f"b{i}": "String" for i in range(len(branches))},
        arguments=_IN_USE,
    )


def names(group: str, after: str | None, rows: int) -> Call[Rows[HeadNode]]:
    """List a group's projects without their repositories: where one of them lets `heads` fail."""
    return _projects(
        HeadNode,
        f"the projects of the group {group}",
        "fullPath archived ciConfigPathOrDefault",
        variables={"group": group, "n": rows, "after": after},
        kinds={"after": "String"},
        arguments=_IN_USE,
    )


def trees(group: str, ids: Sequence[int], ref: str | None) -> Call[Rows[TreeNode]]:
    """List the files of a branch of some projects, as far as they fit on one page."""
    files = (
        f"blobs(first: {PAGE_ROWS_MAX}) {{ pageInfo {{ hasNextPage endCursor }} nodes {{ path sha mode }} }}"
    )
    return _of_projects(
        TreeNode,
        f"the files of {len(ids)} projects",
        f"repository {{ tree(ref: $ref, recursive: true) {{ {files} }} }}"
        if ref is not None
        else f"repository {{ tree(recursive: true) {{ {files} }} }}",
        group=group,
        ids=ids,
        variables={} if ref is None else {"ref": ref},
        kinds={} if ref is None else {"ref": "String"},
    )


def contents(
    group: str, ids: Sequence[int], ref: str | None, paths: Sequence[str]
) -> Call[Rows[ContentsNode]]:
    """Read files of these paths in a branch of some projects; a project lacks those that it does not have."""
    return _of_projects(
        ContentsNode,
        f"{len(paths)} files of {len(ids)} projects",
        "repository { blobs(paths: $paths, ref: $ref, first: $p) { nodes { path size rawTextBlob } } }",
        group=group,
        ids=ids,
        variables={"ref": ref, "paths": list(paths), "p": len(paths)},
        kinds={"ref": "String", "paths": "[String!]!", "p": "Int!"},
    )


def pipelines(
    group: str, ids: Sequence[int], *, ref: str | None, updated_after: datetime | None
) -> Call[Rows[PipelinesNode]]:
    """List the latest pipelines of some projects, at most `BATCH_PIPELINES_MAX` of each."""
    given = {"ref": ref, "updatedAfter": updated_after}
    kinds = {"ref": "String", "updatedAfter": "Time"}
    used = {name: value for name, value in given.items() if value is not None}
    arguments = "".join(f", {name}: ${name}" for name in used)
    fields = "id status ref sha source createdAt updatedAt startedAt finishedAt refPath path"
    return _of_projects(
        PipelinesNode,
        f"the pipelines of {len(ids)} projects",
        f"pipelines(first: {BATCH_PIPELINES_MAX}{arguments}) "
        f"{{ pageInfo {{ hasNextPage endCursor }} nodes {{ {fields} }} }}",
        group=group,
        ids=ids,
        variables=used,
        kinds={name: kinds[name] for name in used},
    )


def project_id(node_id: str) -> int:
    """Read the number of a project from its global id."""
    number = node_id.removeprefix(_ID_PREFIX)
    if not number.isdigit():
        raise ContractError(f"GitLab calls a project {node_id!r}, not {_ID_PREFIX}NUMBER; report this")
    return int(number)


# --- complexity -----------------------------------------------------------------------------------------


def _list_complexity(row: int, resolver: int, rows: int) -> int:
    """Complexity of a list: its row's and its resolver's, and a hundredth more for each row."""
    return (row + resolver) * (100 + min(rows, PAGE_ROWS_MAX)) // 100


def heads_complexity(rows: int, branches: int) -> int:
    """Complexity of `heads`."""
    tree = 2 + 3  # its resolver, which asks Gitaly, and lastCommit, which does so too
    return 1 + _list_complexity(9 + 3 + tree * (1 + branches), 11, rows)


def contents_complexity(rows: int, paths: int) -> int:
    """Complexity of `contents`: each path counts one."""
    blobs = _list_complexity(5, 2 + paths, paths)
    return 1 + _list_complexity(4 + blobs, 11, rows)


def paths_max(rows: int) -> int:
    """Most paths that `contents` may ask for of so many projects."""
    fitting = (
        paths for paths in range(PAGE_ROWS_MAX, 0, -1) if contents_complexity(rows, paths) <= COMPLEXITY_AIM
    )
    return next(fitting)


def heads_rows_max(branches: int) -> int:
    """Most projects that `heads` may list on a page."""
    fitting = (
        rows for rows in range(PAGE_ROWS_MAX, 0, -1) if heads_complexity(rows, branches) <= COMPLEXITY_AIM
    )
    return next(fitting)


# --- how it is asked ------------------------------------------------------------------------------------


class _Group(msgspec.Struct, Generic[Node], frozen=True):
    projects: Rows[Node] | None = None


class _Data(msgspec.Struct, Generic[Node], frozen=True):
    group: _Group[Node] | None = None


class _Fault(msgspec.Struct, frozen=True):
    message: str


class _Reply(msgspec.Struct, Generic[Node], frozen=True):
    data: _Data[Node] | None = None
    errors: tuple[_Fault, ...] = ()


class _Query(msgspec.Struct, frozen=True):
    query: str
    variables: Mapping[str, object]


#: What GitLab says where asking for less helps.
_TOO_MUCH = ("complexity", "max blobs size", "timeout", "timed out", "time out")


def _of_projects(
    node: type[Node],
    about: str,
    fields: str,
    *,
    group: str,
    ids: Sequence[int],
    variables: Mapping[str, object],
    kinds: Mapping[str, str],
) -> Call[Rows[Node]]:
    ids_given = [f"{_ID_PREFIX}{number}" for number in ids]
    return _projects(
        node,
        about,
        fields,
        variables={"group": group, "n": len(ids), "ids": ids_given, **variables},
        kinds={"ids": "[ID!]", **kinds},
        arguments="ids: $ids",
    )


def _projects(
    node: type[Node],
    about: str,
    fields: str,
    *,
    variables: Mapping[str, object],
    kinds: Mapping[str, str],
    arguments: str,
) -> Call[Rows[Node]]:
    declared = ", ".join(f"${name}: {kind}" for name, kind in {"group": "ID!", "n": "Int!", **kinds}.items())
    query = (
        f"query({declared}) {{ group(fullPath: $group) {{ "
        f"projects(includeSubgroups: true, first: $n, {arguments}) {{ "
        f"pageInfo {{ hasNextPage endCursor }} nodes {{ id {fields} }} }} }} }}"
    )
    return Call(
        method="POST",
        path="/api/graphql",
        decode=_decoder(node, about, str(variables["group"])),
        needs=_READ,
        about=about,
        body=msgspec.json.encode(_Query(query, variables)),
        splittable=True,
    )


def _decoder(node: type[Node], about: str, group: str) -> Callable[[bytes], Rows[Node]]:
    decode = msgspec.json.Decoder(_Reply[node]).decode  # type: ignore[valid-type]

    def read(body: bytes) -> Rows[Node]:
        reply = decode(body)
        found = reply.data.group.projects if reply.data and reply.data.group else None
        if found is not None:
            # An error about a part of the answer leaves a null there, which the caller sees.
            return found
        said = "; ".join(fault.message for fault in reply.errors)
        if any(part in said.lower() for part in _TOO_MUCH):
            raise OverloadedError(f"{about}: {said}; less is asked for at once")
        if reply.errors:
            raise ContractError(
                f"{about}: GitLab refuses the query ({said}); it may be older than this program can talk to"
            )
        raise NotFoundError(
            f"{about}: there is no group {group}, or the token's user may not see it; check gitlab.groups, "
            "and give the user the role Reporter in the group"
        )

    return read
