"""What the bots ask of GitLab, as a small protocol. Errors are those of the loop's own ports."""

from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

import msgspec

from imagechain.service.ports import Pipeline

ErrandT_contra = TypeVar("ErrandT_contra", contravariant=True)


class FoundNote(msgspec.Struct, frozen=True, kw_only=True):
    """A comment on a merge request, as the API shows it: who wrote it is true here."""

    id: int
    body: str
    author_id: int
    #: Written by GitLab itself.
    is_system: bool
    #: Shown only to members; an answer would tell others.
    is_internal: bool


class FoundMergeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A merge request."""

    iid: int
    state: str
    #: Another project: a fork.
    source_project_id: int | None
    #: The newest pipeline of its newest commit; None: there is none.
    head_pipeline: int | None


class FoundDeployment(msgspec.Struct, frozen=True, kw_only=True):
    """A deployment."""

    id: int
    project_id: int
    environment: str
    status: str
    ref: str
    sha: str


class StartedProject(msgspec.Struct, frozen=True, kw_only=True):
    """A project that a rule names."""

    id: int
    default_branch: str | None


class Keep(Protocol[ErrandT_contra]):
    """Writes down how far an errand is, before anything else is done for it."""

    async def __call__(self, errand: ErrandT_contra, *, is_done: bool = False) -> None:
        """Write it down; `is_done`: nothing is left to be done."""
        ...


class BotForge(Protocol):
    """GitLab."""

    async def me(self) -> tuple[int, str]:
        """Tell our own user's id and name; asked once."""
        ...

    async def note(self, project_id: int, merge_request: int, note_id: int) -> FoundNote | None:
        """Give a comment on a merge request; None: it is gone."""
        ...

    async def notes(self, project_id: int, merge_request: int) -> Sequence[FoundNote]:
        """Give the newest comments on a merge request."""
        ...

    async def write_note(self, project_id: int, merge_request: int, body: str, note_id: int | None) -> int:
        """Write a comment, or change one; gives its id."""
        ...

    async def merge_request(self, project_id: int, iid: int) -> FoundMergeRequest | None:
        """Give a merge request; None: there is none."""
        ...

    async def is_developer(self, project_id: int, user_id: int) -> bool:
        """Tell whether a user has at least the developer role in a project."""
        ...

    async def deployment(self, project_id: int, deployment_id: int) -> FoundDeployment | None:
        """Give a deployment; None: it is gone."""
        ...

    async def project(self, path: str) -> StartedProject | None:
        """Give a project; None: there is none, or we may not see it."""
        ...

    async def largest_pipeline(self, project_id: int) -> int:
        """Give the largest id of a project's pipelines; 0: it has none."""
        ...

    async def start(
        self, project_id: int, ref: str, *, inputs: Mapping[str, str], variables: Mapping[str, str]
    ) -> Pipeline:
        """Start a pipeline with exactly these inputs and variables.

        Raises:
            RefusedError: GitLab said no; nothing was started.
            NotNowError: nothing was started; later it may be.
            RetryableError: nobody knows whether it was started.
        """
        ...

    async def started_with(
        self, project_id: int, ref: str, after_pipeline: int, name: str, value: str
    ) -> Pipeline | None:
        """Find a pipeline newer than one that was given a variable."""
        ...

    async def pipeline(self, project_id: int, pipeline_id: int) -> Pipeline | None:
        """Give one pipeline; None: there is none."""
        ...

    async def tell(self, project_id: int, sha: str, mark: str, body: str) -> None:
        """Tell people about a commit, once: at the merge request that brought it, else at the commit.

        Args:
            project_id: whose commit.
            sha: the commit.
            mark: how the comment begins; where one begins so, it was told.
            body: the comment.
        """
        ...
