"""The bodies of webhooks, built from the state as it is when they are built.

Shapes: GitLab's page "Webhook events", and the keys of its data builders. Nothing here decides whether a hook
is called.
"""

from imagechain.testing.state import State
from imagechain.testing.times import iso, iso_offset, iso_seconds, ruby
from imagechain.testing.values import (
    FINISHED,
    NO_COMMIT,
    Commit,
    Deployment,
    Job,
    Json,
    MergeRequest,
    Note,
    Pipeline,
    Project,
    RefChange,
    User,
)

#: Most commits in the body of a push; `total_commits_count` tells how many there were.
PUSH_COMMITS_MAX = 20
_VISIBILITY_LEVELS = {"private": 0, "internal": 10, "public": 20}
_LABELS = {"success": "passed", "manual": "blocked", "scheduled": "delayed"}


def web_url(state: State, project: Project) -> str:
    """Write the address of a project's page."""
    return f"{state.settings.url}/{project.full_path}"


def status_label(pipeline: Pipeline) -> str:
    """Write a pipeline's status as people see it."""
    if pipeline.status == "success" and any(job.status == "failed" for job in pipeline.latest_jobs):
        return "passed with warnings"
    return _LABELS.get(pipeline.status, pipeline.status)


def project_part(state: State, project: Project, *, old_names: bool = False) -> Json:
    """Describe a project; with the older names as well, where GitLab still sends them."""
    url = web_url(state, project)
    host = state.settings.url.partition("://")[2]
    ssh = f"git@{host}:{project.full_path}.git"
    part: Json = {
        "id": project.id,
        "name": project.name,
        "description": project.description,
        "web_url": url,
        "avatar_url": None,
        "git_ssh_url": ssh,
        "git_http_url": f"{url}.git",
        "namespace": state.groups[project.group].name,
        "visibility_level": _VISIBILITY_LEVELS[project.visibility],
        "path_with_namespace": project.full_path,
        "default_branch": project.default_branch,
        "ci_config_path": project.ci_config_path,
    }
    if old_names:
        part |= {"homepage": url, "url": ssh, "ssh_url": ssh, "http_url": f"{url}.git"}
    return part


def repository_part(state: State, project: Project) -> Json:
    """Describe a repository, in GitLab's oldest shape."""
    part = project_part(state, project, old_names=True)
    keys = ("name", "url", "description", "homepage", "git_http_url", "git_ssh_url", "visibility_level")
    return {key: part[key] for key in keys}


def user_part(user: User) -> Json:
    """Describe a user; the address is hidden, as for anyone without a public one."""
    return {
        "id": user.id,
        "name": user.name,
        "username": user.username,
        "avatar_url": None,
        "email": "[REDACTED]",
    }


def commit_part(state: State, project: Project, commit: Commit) -> Json:
    """Describe a commit."""
    return {
        "id": commit.sha,
        "message": commit.message,
        "title": commit.title,
        "timestamp": iso_offset(commit.created_at),
        "url": f"{web_url(state, project)}/-/commit/{commit.sha}",
        "author": {"name": commit.author.name, "email": "[REDACTED]"},
    }


def _changed_files(project: Project, commit: Commit) -> Json:
    parent = project.commits[commit.parents[0]].files if commit.parents else {}
    return {
        "added": sorted(commit.files.keys() - parent.keys()),
        "modified": sorted(
            path for path, file in commit.files.items() if path in parent and parent[path] != file
        ),
        "removed": sorted(parent.keys() - commit.files.keys()),
    }


def push(state: State, project: Project, user: User, change: RefChange) -> Json:
    """Build the body of a push of a branch or a tag."""
    kind = "tag_push" if change.ref.startswith("refs/tags/") else "push"
    return {
        "object_kind": kind,
        "event_name": kind,
        "before": change.before,
        "after": change.after,
        "ref": change.ref,
        "ref_protected": change.ref.removeprefix("refs/heads/") in project.protected_branches,
        "checkout_sha": None if change.after == NO_COMMIT else change.after,
        "message": None,
        "user_id": user.id,
        "user_name": user.name,
        "user_username": user.username,
        "user_email": None,
        "user_avatar": None,
        "project_id": project.id,
        "project": project_part(state, project, old_names=True),
        "commits": [
            commit_part(state, project, commit) | _changed_files(project, commit)
            for commit in change.commits[-PUSH_COMMITS_MAX:]
        ],
        "total_commits_count": len(change.commits),
        "push_options": {},
        "repository": repository_part(state, project),
    }


def seconds_between(start: float | None, end: float | None) -> float | None:
    """Compute how long something took, if it began and ended."""
    return None if start is None or end is None else round(end - start, 3)


def _build(state: State, job: Job) -> Json:
    environment = job.plan.environment
    return {
        "id": job.id,
        "stage": job.plan.stage,
        "name": job.plan.name,
        "status": job.status,
        "created_at": ruby(job.created_at),
        "started_at": ruby(job.started_at),
        "finished_at": ruby(job.finished_at),
        "duration": seconds_between(job.started_at, job.finished_at),
        "queued_duration": seconds_between(job.queued_at, job.started_at),
        "failure_reason": job.failure_reason,
        "when": job.plan.when,
        "manual": job.plan.when == "manual",
        "allow_failure": job.plan.allow_failure,
        "user": user_part(state.users[job.user]),
        "runner": None,
        "artifacts_file": artifacts_file(job),
        "environment": None
        if environment is None
        else {"name": environment, "action": "start", "deployment_tier": "other"},
    }


def _source_pipeline(state: State, pipeline: Pipeline) -> Json:
    """Tell which job of another pipeline started this one."""
    source = pipeline.source_job
    if source is None:
        return {}
    upstream = state.projects[source.project]
    project = {
        "id": upstream.id,
        "web_url": web_url(state, upstream),
        "path_with_namespace": upstream.full_path,
    }
    return {
        "source_pipeline": {"project": project, "pipeline_id": source.pipeline, "job_id": source.id},
    }


def pipeline(state: State, pipeline: Pipeline) -> Json:
    """Build the body of a pipeline hook."""
    project = state.projects[pipeline.project]
    merge_request = project.merge_requests.get(pipeline.merge_request or 0)
    finished = pipeline.finished_at if pipeline.status in FINISHED else None
    duration = seconds_between(pipeline.started_at, finished)
    return {
        "object_kind": "pipeline",
        "object_attributes": {
            "id": pipeline.id,
            "iid": pipeline.iid,
            "name": pipeline.name,
            # The API names the merge request's ref; the hook the branch.
            "ref": merge_request.source_branch if merge_request else pipeline.ref,
            "tag": pipeline.tag,
            "sha": pipeline.sha,
            "before_sha": pipeline.before_sha,
            "source": pipeline.source,
            "status": pipeline.status,
            "detailed_status": status_label(pipeline),
            "stages": list(dict.fromkeys(job.plan.stage for job in pipeline.jobs)),
            "created_at": ruby(pipeline.created_at),
            "finished_at": ruby(finished),
            "duration": None if duration is None else int(duration),
            "queued_duration": None
            if pipeline.started_at is None
            else int(pipeline.started_at - pipeline.created_at),
            "protected_ref": pipeline.ref in project.protected_branches,
            "variables": [{"key": item.key, "value": item.value} for item in pipeline.variables],
            "url": f"{web_url(state, project)}/-/pipelines/{pipeline.id}",
        },
        "merge_request": None
        if merge_request is None
        else {
            "id": merge_request.id,
            "iid": merge_request.iid,
            "title": merge_request.title,
            "source_branch": merge_request.source_branch,
            "source_project_id": project.id,
            "target_branch": merge_request.target_branch,
            "target_project_id": project.id,
            "state": merge_request.state,
            "merge_status": "can_be_merged",
            "detailed_merge_status": "mergeable",
            "url": f"{web_url(state, project)}/-/merge_requests/{merge_request.iid}",
        },
        "user": user_part(state.users[pipeline.user]),
        "project": project_part(state, project),
        "commit": commit_part(state, project, project.commits[pipeline.sha]),
        "builds": [_build(state, job) for job in pipeline.latest_jobs if job.plan.trigger is None],
        **_source_pipeline(state, pipeline),
    }


def artifacts_file(job: Job) -> Json:
    """Render the archive of a job, as hooks and the API show it."""
    archive = job.artifacts.get("archive")
    if archive is None:
        return {"filename": None, "size": None}
    return {"filename": archive.filename, "size": len(archive.content)}


def job(state: State, pipeline: Pipeline, job: Job) -> Json:
    """Build the body of a job hook. Its `commit.id` is the pipeline's id, as GitLab sends it."""
    project = state.projects[pipeline.project]
    commit = project.commits[pipeline.sha]
    user = state.users[job.user]
    times: Json = {}
    for key, at in (("created", job.created_at), ("started", job.started_at), ("finished", job.finished_at)):
        times[f"build_{key}_at"] = None if at is None else iso(at)
        times[f"build_{key}_at_iso"] = None if at is None else iso_seconds(at)
    return {
        "object_kind": "build",
        "ref": pipeline.ref,
        "tag": pipeline.tag,
        "before_sha": pipeline.before_sha,
        "sha": pipeline.sha,
        "retries_count": sum(other.retried and other.plan.name == job.plan.name for other in pipeline.jobs),
        "build_id": job.id,
        "build_name": job.plan.name,
        "build_stage": job.plan.stage,
        "build_status": job.status,
        **times,
        "build_duration": seconds_between(job.started_at, job.finished_at),
        "build_queued_duration": seconds_between(job.queued_at, job.started_at),
        "build_allow_failure": job.plan.allow_failure,
        "build_failure_reason": job.failure_reason or "unknown_failure",
        "pipeline_id": pipeline.id,
        "runner": None,
        "project_id": project.id,
        "project_name": project.full_path,
        "user": user_part(user),
        "commit": {
            "id": pipeline.id,
            "name": pipeline.name,
            "sha": pipeline.sha,
            "message": commit.message,
            "author_name": commit.author.name,
            "author_email": "[REDACTED]",
            "author_url": f"{state.settings.url}/{commit.author.username}",
            "status": pipeline.status,
            "duration": seconds_between(pipeline.started_at, pipeline.finished_at),
            "started_at": ruby(pipeline.started_at),
            "finished_at": ruby(pipeline.finished_at),
            "started_at_iso": None if pipeline.started_at is None else iso_seconds(pipeline.started_at),
            "finished_at_iso": None if pipeline.finished_at is None else iso_seconds(pipeline.finished_at),
        },
        "repository": repository_part(state, project),
        "project": project_part(state, project),
        "environment": None if job.plan.environment is None else {"name": job.plan.environment},
        **_source_pipeline(state, pipeline),
    }


def _merge_request_attributes(state: State, project: Project, merge_request: MergeRequest) -> Json:
    head = project.resolve(merge_request.source_branch)
    return {
        "id": merge_request.id,
        "iid": merge_request.iid,
        "title": merge_request.title,
        "description": merge_request.description,
        "author_id": merge_request.author,
        "source_branch": merge_request.source_branch,
        "source_project_id": project.id,
        "target_branch": merge_request.target_branch,
        "target_project_id": project.id,
        "state": merge_request.state,
        "draft": False,
        "created_at": ruby(merge_request.created_at),
        "updated_at": ruby(merge_request.updated_at),
        "merge_status": "can_be_merged",
        "detailed_merge_status": "mergeable",
        "merge_commit_sha": merge_request.merge_commit_sha,
        "squash_commit_sha": None,
        "head_pipeline_id": max(
            (item.id for item in project.pipelines.values() if item.merge_request == merge_request.iid),
            default=None,
        ),
        "last_commit": None if head is None else commit_part(state, project, head),
        "source": project_part(state, project),
        "target": project_part(state, project),
        "url": f"{web_url(state, project)}/-/merge_requests/{merge_request.iid}",
    }


def merge_request(
    state: State, project: Project, merge_request: MergeRequest, user: User, action: str
) -> Json:
    """Build the body of a merge request hook."""
    attributes = _merge_request_attributes(state, project, merge_request)
    attributes |= {"action": action, "system": False, "actioned_at": iso(merge_request.updated_at)}
    return {
        "object_kind": "merge_request",
        "event_type": "merge_request",
        "user": user_part(user),
        "project": project_part(state, project),
        "object_attributes": attributes,
        "labels": [],
        "changes": {},
        "repository": repository_part(state, project),
    }


def note(state: State, project: Project, merge_request: MergeRequest, note: Note, action: str) -> Json:
    """Build the body of a note hook of a merge request."""
    url = f"{web_url(state, project)}/-/merge_requests/{merge_request.iid}#note_{note.id}"
    return {
        "object_kind": "note",
        "event_type": "confidential_note" if note.internal else "note",
        "user": user_part(state.users[note.author]),
        "project_id": project.id,
        "project": project_part(state, project, old_names=True),
        "repository": repository_part(state, project),
        "object_attributes": {
            "id": note.id,
            "internal": note.internal,
            "note": note.body,
            "noteable_type": "MergeRequest",
            "author_id": note.author,
            "created_at": ruby(note.created_at),
            "updated_at": ruby(note.updated_at),
            "project_id": project.id,
            "attachment": None,
            "line_code": None,
            "commit_id": "",
            "noteable_id": merge_request.id,
            "system": note.system,
            "st_diff": None,
            "action": action,
            "url": url,
        },
        "merge_request": _merge_request_attributes(state, project, merge_request),
    }


def deployment(state: State, project: Project, deployment: Deployment) -> Json:
    """Build the body of a deployment hook."""
    user = state.users[deployment.user]
    commit = project.commits[deployment.sha]
    environment = next(item for item in project.environments.values() if item.name == deployment.environment)
    return {
        "object_kind": "deployment",
        "status": deployment.status,
        "status_changed_at": ruby(deployment.updated_at),
        "deployment_id": deployment.id,
        "deployable_id": None,
        "deployable_url": None,
        "environment": environment.name,
        "environment_tier": environment.tier,
        "environment_slug": environment.name.replace("/", "-"),
        "environment_external_url": environment.external_url,
        "project": project_part(state, project, old_names=True),
        "short_sha": commit.sha[:8],
        "user": user_part(user),
        "user_url": f"{state.settings.url}/{user.username}",
        "commit_url": f"{web_url(state, project)}/-/commit/{commit.sha}",
        "commit_title": commit.title,
    }


def project_event(project: Project, event: str) -> Json:
    """Build the body of a group hook's project event: `project_create` or `project_destroy`."""
    return {
        "event_name": event,
        "created_at": iso_seconds(project.created_at),
        "updated_at": iso_seconds(project.last_activity_at),
        "name": project.name,
        "path": project.path,
        "path_with_namespace": project.full_path,
        "project_id": project.id,
        "project_namespace_id": project.id,
        "owners": [],
        "project_visibility": project.visibility,
    }
