"""Merge requests with their comments, and deployments."""

from imagechain.testing import payloads
from imagechain.testing.hooks import Hooks
from imagechain.testing.pipelines import PipelineRefusedError, Pipelines
from imagechain.testing.repositories import Repositories
from imagechain.testing.state import State
from imagechain.testing.values import (
    Deployment,
    Environment,
    MergeRequest,
    Note,
    Pipeline,
    Project,
    RefChange,
    SimulationError,
    User,
)

#: Statuses of a deployment that fire a hook.
_ANNOUNCED = frozenset({"running", "success", "failed", "canceled"})
_TIERS = {"prod": "production", "stag": "staging", "test": "testing", "dev": "development"}


class Collaboration:
    """Changes merge requests and deployments, with the hooks that follow."""

    def __init__(self, state: State, hooks: Hooks, pipelines: Pipelines, repositories: Repositories) -> None:
        self._state = state
        self._hooks = hooks
        self._pipelines = pipelines
        self._repositories = repositories

    # --- merge requests

    def open_merge_request(
        self,
        project: Project,
        *,
        author: User,
        source: str,
        target: str | None = None,
        title: str = "Change",
        description: str = "",
    ) -> MergeRequest:
        """Open a merge request, with its pipeline if the CI configuration has jobs for it.

        Raises:
            SimulationError: a branch is missing.
        """
        target = target or project.default_branch or ""
        for branch in (source, target):
            if branch not in project.branches:
                raise SimulationError(f"{project.full_path} has no branch {branch!r}")
        now = self._state.clock()
        merge_request = MergeRequest(
            id=self._state.next_id("merge request"),
            iid=len(project.merge_requests) + 1,
            project=project.id,
            title=title,
            description=description,
            source_branch=source,
            target_branch=target,
            author=author.id,
            created_at=now,
            updated_at=now,
        )
        project.merge_requests[merge_request.iid] = merge_request
        self._emit(project, merge_request, author, "open")
        try:
            self.run_merge_request(project, merge_request, author)
        except PipelineRefusedError:
            return merge_request  # No job is for merge requests.
        return merge_request

    def run_merge_request(self, project: Project, merge_request: MergeRequest, user: User) -> Pipeline:
        """Start the pipeline of a merge request.

        Raises:
            PipelineRefusedError: no job is for merge requests.
        """
        ref = f"refs/merge-requests/{merge_request.iid}/head"
        return self._pipelines.create(
            project, ref, user=user, source="merge_request_event", merge_request=merge_request.iid
        )

    def merge(self, project: Project, merge_request: MergeRequest, *, user: User) -> None:
        """Merge: two hooks tell of it, one of the merge request and one of the push."""
        if merge_request.state != "opened":
            raise SimulationError(f"merge request {merge_request.iid} is {merge_request.state}")
        source = project.commits[project.branches[merge_request.source_branch]]
        before = project.branches[merge_request.target_branch]
        files = {**project.commits[before].files, **source.files}
        message = f"Merge branch '{merge_request.source_branch}' into '{merge_request.target_branch}'"
        commit = self._repositories.commit(project, project.commits[before], files, message, user)
        now = self._state.clock()
        merge_request.state, merge_request.merged_at, merge_request.updated_at = "merged", now, now
        merge_request.merge_commit_sha = commit.sha
        self._emit(project, merge_request, user, "merge")
        change = RefChange(
            ref=f"refs/heads/{merge_request.target_branch}",
            before=before,
            after=commit.sha,
            commits=(commit,),
        )
        self._repositories.push_refs(project, [change], user=user)

    def _emit(self, project: Project, merge_request: MergeRequest, user: User, action: str) -> None:
        self._hooks.emit(
            project,
            "merge_request_hooks",
            lambda: payloads.merge_request(self._state, project, merge_request, user, action),
        )

    # --- notes

    def add_note(
        self,
        project: Project,
        merge_request: MergeRequest,
        *,
        author: User,
        body: str,
        internal: bool = False,
    ) -> Note:
        """Comment on a merge request."""
        now = self._state.clock()
        note = Note(
            id=self._state.next_id("note"),
            author=author.id,
            body=body,
            created_at=now,
            updated_at=now,
            internal=internal,
        )
        merge_request.notes[note.id] = note
        self._emit_note(project, merge_request, note, "create")
        return note

    def edit_note(self, project: Project, merge_request: MergeRequest, note: Note, body: str) -> None:
        """Change a comment; only another text fires a hook."""
        if note.body == body:
            return
        note.body, note.updated_at = body, self._state.clock()
        self._emit_note(project, merge_request, note, "update")

    def _emit_note(self, project: Project, merge_request: MergeRequest, note: Note, action: str) -> None:
        trigger = "confidential_note_hooks" if note.internal else "note_hooks"
        self._hooks.emit(
            project, trigger, lambda: payloads.note(self._state, project, merge_request, note, action)
        )

    # --- deployments

    def environment(self, project: Project, name: str) -> Environment:
        """Find an environment, or make it."""
        for environment in project.environments.values():
            if environment.name == name:
                return environment
        tier = next((tier for start, tier in _TIERS.items() if name.startswith(start)), "other")
        environment = Environment(
            id=self._state.next_id("environment"), name=name, created_at=self._state.clock(), tier=tier
        )
        project.environments[environment.id] = environment
        return environment

    def deploy(
        self,
        project: Project,
        *,
        environment: str,
        ref: str,
        sha: str,
        status: str,
        user: User,
        tag: bool = False,
    ) -> Deployment:
        """Record a deployment.

        Raises:
            SimulationError: there is no such commit.
        """
        if sha not in project.commits:
            raise SimulationError("The commit does not exist")
        self.environment(project, environment)
        now = self._state.clock()
        deployment = Deployment(
            id=self._state.next_id("deployment"),
            iid=len(project.deployments) + 1,
            project=project.id,
            environment=environment,
            ref=ref,
            sha=sha,
            tag=tag,
            user=user.id,
            status="created",
            created_at=now,
            updated_at=now,
        )
        project.deployments[deployment.id] = deployment
        self.set_deployment_status(project, deployment, status)
        return deployment

    def set_deployment_status(self, project: Project, deployment: Deployment, status: str) -> None:
        """Move a deployment on."""
        if deployment.status == status:
            return
        now = self._state.clock()
        deployment.status, deployment.updated_at = status, now
        if status in _ANNOUNCED - {"running"}:
            deployment.finished_at = now
        if status in _ANNOUNCED:
            self._hooks.emit(
                project, "deployment_hooks", lambda: payloads.deployment(self._state, project, deployment)
            )
