"""The calls about what people do: comments, merge requests, members, deployments, commits.

Sources: GitLab's `doc/api/{notes,merge_requests,project_members,deployments,commits,users}.md`.
"""

import msgspec

from imagechain.gitlab.call import PAGE_ROWS_MAX, Call, Needs, quoted
from imagechain.gitlab.values import CommitComment, CurrentUser, Deployment, Member, MergeRequest, Note

_READ = Needs("read_api", "Reporter")
_WRITE = Needs("api", "Reporter")

_user = msgspec.json.Decoder(CurrentUser).decode
_member = msgspec.json.Decoder(Member).decode
_merge_request = msgspec.json.Decoder(MergeRequest).decode
_merge_requests = msgspec.json.Decoder(tuple[MergeRequest, ...]).decode
_commit_comments = msgspec.json.Decoder(tuple[CommitComment, ...]).decode
_note = msgspec.json.Decoder(Note).decode
_notes = msgspec.json.Decoder(tuple[Note, ...]).decode
_deployment = msgspec.json.Decoder(Deployment).decode


def _nothing(_: bytes) -> None:
    """Pass over an answer that says nothing but that it worked."""


def _merge_request_path(project: int, iid: int, below: str = "") -> str:
    return f"/api/v4/projects/{project}/merge_requests/{iid}{below}"


def current_user() -> Call[CurrentUser]:
    """Ask whose token this is."""
    return Call(method="GET", path="/api/v4/user", decode=_user, needs=_READ, about="the token's user")


def member(project: int, user: int) -> Call[Member]:
    """Ask for the role of a user in a project, inherited ones included."""
    return Call(
        method="GET",
        path=f"/api/v4/projects/{project}/members/all/{user}",
        decode=_member,
        needs=_READ,
        about=f"the role of user {user} in {project}",
    )


def merge_request(project: int, iid: int) -> Call[MergeRequest]:
    """Ask for a merge request."""
    path = _merge_request_path(project, iid)
    about = f"merge request {iid} of {project}"
    return Call(method="GET", path=path, decode=_merge_request, needs=_READ, about=about)


def note(project: int, iid: int, note: int) -> Call[Note]:
    """Ask for a comment on a merge request."""
    path = _merge_request_path(project, iid, f"/notes/{note}")
    about = f"comment {note} on merge request {iid} of {project}"
    return Call(method="GET", path=path, decode=_note, needs=_READ, about=about)


def notes(project: int, iid: int) -> Call[tuple[Note, ...]]:
    """List the comments on a merge request, the newest first."""
    return Call(
        method="GET",
        path=_merge_request_path(project, iid, "/notes"),
        decode=_notes,
        needs=_READ,
        about=f"the comments on merge request {iid} of {project}",
        params=(("sort", "desc"), ("order_by", "created_at"), ("per_page", str(PAGE_ROWS_MAX))),
    )


def create_note(project: int, iid: int, body: str) -> Call[Note]:
    """Comment on a merge request. Not repeated by itself: after a time-out, look first."""
    return Call(
        method="POST",
        path=_merge_request_path(project, iid, "/notes"),
        decode=_note,
        needs=_WRITE,
        about=f"commenting on merge request {iid} of {project}",
        body=msgspec.json.encode({"body": body}),
        idempotent=False,
    )


def update_note(project: int, iid: int, note: int, body: str) -> Call[Note]:
    """Change a comment."""
    return Call(
        method="PUT",
        path=_merge_request_path(project, iid, f"/notes/{note}"),
        decode=_note,
        needs=_WRITE,
        about=f"changing comment {note} on merge request {iid} of {project}",
        body=msgspec.json.encode({"body": body}),
    )


def deployment(project: int, deployment: int) -> Call[Deployment]:
    """Ask for a deployment."""
    return Call(
        method="GET",
        path=f"/api/v4/projects/{project}/deployments/{deployment}",
        decode=_deployment,
        needs=_READ,
        about=f"deployment {deployment} of {project}",
    )


def commit_merge_requests(project: int, sha: str) -> Call[tuple[MergeRequest, ...]]:
    """List the merge requests that brought a commit."""
    return Call(
        method="GET",
        path=_commit_path(project, sha, "/merge_requests"),
        decode=_merge_requests,
        needs=_READ,
        about=f"the merge requests of commit {sha} of {project}",
    )


def commit_comments(project: int, sha: str) -> Call[tuple[CommitComment, ...]]:
    """List the comments on a commit."""
    return Call(
        method="GET",
        path=_commit_path(project, sha, "/comments"),
        decode=_commit_comments,
        needs=_READ,
        about=f"the comments on commit {sha} of {project}",
        params=(("per_page", str(PAGE_ROWS_MAX)),),
    )


def comment_commit(project: int, sha: str, note: str) -> Call[None]:
    """Comment on a commit. Not repeated by itself: after a time-out, look first."""
    return Call(
        method="POST",
        path=_commit_path(project, sha, "/comments"),
        decode=_nothing,
        needs=_WRITE,
        about=f"commenting on commit {sha} of {project}",
        body=msgspec.json.encode({"note": note}),
        idempotent=False,
    )


def _commit_path(project: int, sha: str, below: str) -> str:
    return f"/api/v4/projects/{project}/repository/commits/{quoted(sha)}{below}"
