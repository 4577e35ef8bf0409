"""GitLab, as the bots ask for it; and as the loop sees it, in which trials are no builds."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from imagechain.gitlab import collaboration, errors, rest, values
from imagechain.gitlab.client import Client
from imagechain.service.bots.ports import (
    FoundDeployment,
    FoundMergeRequest,
    FoundNote,
    StartedProject,
)
from imagechain.service.forge import loop_errors, loop_pipeline
from imagechain.service.ports import (
    Pipeline,
    Pipelines,
    PipelinesFound,
    RetryableError,
    Scan,
    TrackedProject,
)
from imagechain.service.starts import REQUEST_SECONDS_MAX

#: Developer, as GitLab numbers roles.
_DEVELOPER = 30
#: Pipelines that are looked through for one that was started.
_NEWER_ROWS_MAX = 50


class GitLabBots:
    """Asks GitLab for what the bots need."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._me: tuple[int, str] | None = None

    async def me(self) -> tuple[int, str]:
        """Tell our own user's id and name; asked once."""
        if self._me is None:
            async with loop_errors():
                user = await self._client.send(collaboration.current_user())
            self._me = user.id, user.username
        return self._me

    async def note(self, project_id: int, merge_request: int, note_id: int) -> FoundNote | None:
        """Give a comment; None: it is gone, or is on something else."""
        async with loop_errors():
            try:
                found = await self._client.send(collaboration.note(project_id, merge_request, note_id))
            except errors.NotFoundError:
                return None
        return _note(found)

    async def notes(self, project_id: int, merge_request: int) -> Sequence[FoundNote]:
        """Give the newest comments."""
        async with loop_errors():
            found = await self._client.send(collaboration.notes(project_id, merge_request))
        return [_note(one) for one in found]

    async def write_note(self, project_id: int, merge_request: int, body: str, note_id: int | None) -> int:
        """Write a comment, or change one that is still there."""
        async with loop_errors():
            if note_id is not None:
                try:
                    call = collaboration.update_note(project_id, merge_request, note_id, body)
                    return (await self._client.send(call)).id
                except errors.NotFoundError:
                    pass  # Somebody removed it; what is to be said is said anew.
            return (await self._client.send(collaboration.create_note(project_id, merge_request, body))).id

    async def merge_request(self, project_id: int, iid: int) -> FoundMergeRequest | None:
        """Give a merge request; None: there is none."""
        async with loop_errors():
            try:
                found = await self._client.send(collaboration.merge_request(project_id, iid))
            except errors.NotFoundError:
                return None
        return FoundMergeRequest(
            iid=found.iid,
            state=found.state,
            source_project_id=found.source_project_id,
            head_pipeline=found.head_pipeline.id if found.head_pipeline is not None else None,
        )

    async def is_developer(self, project_id: int, user_id: int) -> bool:
        """Tell whether a user is an active member with at least that role."""
        async with loop_errors():
            try:
                found = await self._client.send(collaboration.member(project_id, user_id))
            except errors.NotFoundError:
                return False
        return found.state == "active" and found.access_level >= _DEVELOPER

    async def deployment(self, project_id: int, deployment_id: int) -> FoundDeployment | None:
        """Give a deployment; None: it is gone."""
        async with loop_errors():
            try:
                found = await self._client.send(collaboration.deployment(project_id, deployment_id))
            except errors.NotFoundError:
                return None
        return FoundDeployment(
            id=found.id,
            project_id=project_id,
            environment=found.environment.name,
            status=found.status,
            ref=found.ref,
            sha=found.sha,
        )

    async def project(self, path: str) -> StartedProject | None:
        """Give a project; None: there is none, or we may not see it."""
        async with loop_errors():
            try:
                found = await self._client.send(rest.project(path))
            except errors.NotFoundError:
                return None
        return StartedProject(id=found.id, default_branch=found.default_branch)

    async def largest_pipeline(self, project_id: int) -> int:
        """Give the largest id of a project's pipelines."""
        async with loop_errors():
            found = await self._client.send(rest.pipelines(project_id, rows=1))
        return max((one.id for one in found), default=0)

    async def start(
        self, project_id: int, ref: str, *, inputs: Mapping[str, str], variables: Mapping[str, str]
    ) -> Pipeline:
        """Start a pipeline; it is told all of this, or not started."""
        call = rest.create_pipeline(project_id, ref, inputs=inputs, variables=variables)
        try:
            async with loop_errors(), asyncio.timeout(REQUEST_SECONDS_MAX):
                return loop_pipeline(await self._client.send(call), self._client)
        except TimeoutError as error:
            raise RetryableError(f"GitLab did not answer within {REQUEST_SECONDS_MAX:.0f} s") from error

    async def started_with(
        self, project_id: int, ref: str, after_pipeline: int, name: str, value: str
    ) -> Pipeline | None:
        """Find a pipeline newer than one that was given a variable."""
        async with loop_errors():
            found = await self._client.send(
                rest.pipelines(project_id, ref=ref, source="api", rows=_NEWER_ROWS_MAX)
            )
            for one in found:
                if one.id > after_pipeline:
                    given = await self._client.send(rest.pipeline_variables(project_id, one.id))
                    if any((variable.key, variable.value) == (name, value) for variable in given):
                        return loop_pipeline(one, self._client)
        return None

    async def pipeline(self, project_id: int, pipeline_id: int) -> Pipeline | None:
        """Give one pipeline; None: there is none."""
        async with loop_errors():
            try:
                found = await self._client.send(rest.pipeline(project_id, pipeline_id))
                return loop_pipeline(found, self._client)
            except errors.NotFoundError:
                return None

    async def tell(self, project_id: int, sha: str, mark: str, body: str) -> None:
        """Tell people about a commit, once: at the merge request that brought it, else at the commit."""
        async with loop_errors():
            brought = await self._client.send(collaboration.commit_merge_requests(project_id, sha))
            merged = [found.iid for found in brought if found.state == "merged"]
            if merged:
                notes = await self._client.send(collaboration.notes(project_id, max(merged)))
                said = [note.body for note in notes]
            else:
                said = [
                    one.note
                    for one in await self._client.send(collaboration.commit_comments(project_id, sha))
                ]
            if any(text.startswith(mark) for text in said):
                return
            if merged:
                await self._client.send(collaboration.create_note(project_id, max(merged), body))
            else:
                await self._client.send(collaboration.comment_commit(project_id, sha, body))


class WithoutTrials:
    """GitLab without the pipelines that only try images: they are no builds of their branch."""

    def __init__(self, forge: Pipelines, is_trial: Callable[[Pipeline], bool]) -> None:
        self._forge = forge
        self._is_trial = is_trial

    async def scan(self) -> Scan:
        """Read the groups."""
        return await self._forge.scan()

    async def create_pipeline(self, project: TrackedProject, told: Mapping[str, str]) -> Pipeline:
        """Start a build."""
        return await self._forge.create_pipeline(project, told)

    async def latest_pipelines(self, projects: Sequence[TrackedProject]) -> PipelinesFound:
        """Leave trials out."""
        found = await self._forge.latest_pipelines(projects)
        return PipelinesFound(self._builds(found.pipelines), found.failed)

    async def pipelines_since(
        self, projects: Sequence[TrackedProject], updated_after: float
    ) -> PipelinesFound:
        """Leave trials out."""
        found = await self._forge.pipelines_since(projects, updated_after)
        return PipelinesFound(self._builds(found.pipelines), found.failed)

    async def pipelines_after(self, project: TrackedProject, pipeline_id: int) -> Sequence[Pipeline]:
        """Leave trials out."""
        return self._builds(await self._forge.pipelines_after(project, pipeline_id))

    async def pipeline(self, project_id: int, pipeline_id: int) -> Pipeline | None:
        """Leave trials out."""
        found = await self._forge.pipeline(project_id, pipeline_id)
        return found if found is None or not self._is_trial(found) else None

    def _builds(self, found: Sequence[Pipeline]) -> list[Pipeline]:
        return [one for one in found if not self._is_trial(one)]


def _note(found: values.Note) -> FoundNote:
    return FoundNote(
        id=found.id,
        body=found.body,
        author_id=found.author.id,
        is_system=found.system,
        is_internal=found.internal,
    )
