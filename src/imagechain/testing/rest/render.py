"""The JSON of the REST API's records. Shapes: GitLab's API pages, its OpenAPI file and JSON schemas."""

from imagechain.testing import payloads
from imagechain.testing.hooks import Hooks
from imagechain.testing.state import State
from imagechain.testing.times import iso, iso_or_none
from imagechain.testing.values import (
    Commit,
    Deployment,
    Environment,
    Group,
    Hook,
    HookEvent,
    Job,
    Json,
    MergeRequest,
    Note,
    Pipeline,
    Project,
    RegistryRepository,
    RegistryTag,
    Schedule,
    Token,
    Trigger,
    User,
)

HOOK_SETTINGS = (
    "push_events", "issues_events", "confidential_issues_events", "merge_requests_events", "tag_push_events",
    "note_events", "confidential_note_events", "job_events", "pipeline_events", "wiki_page_events",
    "deployment_events", "releases_events", "milestone_events", "feature_flag_events", "emoji_events",
    "resource_access_token_events", "vulnerability_events",
)  # fmt: skip


def user(state: State, user: User) -> Json:
    """Render a user as others see them."""
    return {
        "id": user.id,
        "username": user.username,
        "name": user.name,
        "state": "active",
        "locked": False,
        "avatar_url": f"{state.settings.url}/uploads/user/avatar/{user.id}/avatar.png",
        "web_url": f"{state.settings.url}/{user.username}",
    }


def user_self(state: State, user_: User) -> Json:
    """Render a user as they see themselves."""
    more = {"email": f"{user_.username}@example.com", "bot": user_.bot}
    if user_.admin:
        more["is_admin"] = True
    return user(state, user_) | more


def token(token: Token) -> Json:
    """Render an access token, without its value."""
    return {
        "id": token.id,
        "name": token.name,
        "description": None,
        "revoked": token.revoked,
        "created_at": iso(token.created_at),
        "scopes": list(token.scopes),
        "user_id": token.user,
        "last_used_at": None,
        "active": not token.revoked,
        "expires_at": None if token.expires_at is None else iso(token.expires_at)[:10],
    }


def group(state: State, group: Group) -> Json:
    """Render a group."""
    return {
        "id": group.id,
        "name": group.name,
        "path": group.path,
        "full_path": group.full_path,
        "full_name": " / ".join(above.name for above in reversed(list(state.ancestors(group.id)))),
        "description": "",
        "visibility": group.visibility,
        "parent_id": group.parent,
        "avatar_url": None,
        "web_url": f"{state.settings.url}/groups/{group.full_path}",
        "marked_for_deletion_on": None,
    }


def simple_project(state: State, project: Project) -> Json:
    """Render a project as lists with `simple=true` do."""
    part = payloads.project_part(state, project)
    above = state.groups[project.group]
    return {
        "id": project.id,
        "description": project.description,
        "name": project.name,
        "name_with_namespace": f"{above.name} / {project.name}",
        "path": project.path,
        "path_with_namespace": project.full_path,
        "created_at": iso(project.created_at),
        "default_branch": project.default_branch,
        "tag_list": [],
        "topics": [],
        "ssh_url_to_repo": part["git_ssh_url"],
        "http_url_to_repo": part["git_http_url"],
        "web_url": part["web_url"],
        "readme_url": None,
        "avatar_url": None,
        "forks_count": 0,
        "star_count": 0,
        "last_activity_at": iso(project.last_activity_at),
        "namespace": {
            "id": above.id,
            "name": above.name,
            "path": above.path,
            "kind": "group",
            "full_path": above.full_path,
            "parent_id": above.parent,
            "avatar_url": None,
            "web_url": f"{state.settings.url}/groups/{above.full_path}",
        },
    }


def project(state: State, project: Project) -> Json:
    """Render a project."""
    return simple_project(state, project) | {
        "empty_repo": project.default_branch is None,
        "archived": project.archived,
        "visibility": project.visibility,
        "marked_for_deletion_on": "2099-01-01" if project.deletion_scheduled else None,
        "issues_enabled": True,
        "merge_requests_enabled": True,
        "wiki_enabled": True,
        "snippets_enabled": True,
        "jobs_enabled": project.ci_enabled,
        "builds_access_level": "enabled" if project.ci_enabled else "disabled",
        "container_registry_enabled": True,
        "container_registry_image_prefix": registry_prefix(state, project),
        "shared_runners_enabled": True,
        "creator_id": 1,
        "open_issues_count": 0,
        "public_jobs": True,
        "shared_with_groups": [{"group_id": shared} for shared in sorted(project.shared_with)],
        "request_access_enabled": False,
        "ci_config_path": project.ci_config_path,
        "ci_pipeline_variables_minimum_override_role": project.pipeline_variables_role,
        "ci_job_token_scope_enabled": False,
    }


def registry_prefix(state: State, project: Project) -> str:
    """Name the image at the project's own path."""
    return f"{state.settings.registry_host}/{project.full_path.lower()}"


def commit(state: State, project: Project, commit: Commit) -> Json:
    """Render a commit."""
    at = iso(commit.created_at)
    who = commit.author.name
    address = f"{commit.author.username}@example.com"
    return {
        "id": commit.sha,
        "short_id": commit.sha[:8],
        "title": commit.title,
        "message": commit.message,
        "parent_ids": list(commit.parents),
        "author_name": who,
        "author_email": address,
        "authored_date": at,
        "committer_name": who,
        "committer_email": address,
        "committed_date": at,
        "created_at": at,
        "trailers": {},
        "web_url": f"{payloads.web_url(state, project)}/-/commit/{commit.sha}",
    }


def branch(state: State, project: Project, name: str) -> Json:
    """Render a branch."""
    protected = name in project.protected_branches
    return {
        "name": name,
        "commit": commit(state, project, project.commits[project.branches[name]]),
        "merged": False,
        "protected": protected,
        "developers_can_push": not protected,
        "developers_can_merge": not protected,
        "can_push": True,
        "default": name == project.default_branch,
        "web_url": f"{payloads.web_url(state, project)}/-/tree/{name}",
    }


def tag(state: State, project: Project, name: str) -> Json:
    """Render a tag."""
    found = project.commits[project.tags[name]]
    return {
        "name": name,
        "message": "",
        "target": found.sha,
        "commit": commit(state, project, found),
        "release": None,
        "protected": False,
        "created_at": None,
    }


def pipeline_basic(state: State, pipeline: Pipeline) -> Json:
    """Render a pipeline as lists do, without its name."""
    project = state.projects[pipeline.project]
    return {
        "id": pipeline.id,
        "iid": pipeline.iid,
        "project_id": project.id,
        "status": pipeline.status,
        "source": pipeline.source,
        "ref": pipeline.ref,
        "sha": pipeline.sha,
        "web_url": f"{payloads.web_url(state, project)}/-/pipelines/{pipeline.id}",
        "created_at": iso(pipeline.created_at),
        "updated_at": iso(pipeline.updated_at),
    }


def pipeline_item(state: State, pipeline: Pipeline) -> Json:
    """Render a pipeline of a list."""
    return pipeline_basic(state, pipeline) | {"name": pipeline.name}


def pipeline(state: State, pipeline: Pipeline) -> Json:
    """Render a pipeline that was made, retried or cancelled: all but its name."""
    duration = payloads.seconds_between(pipeline.started_at, pipeline.finished_at)
    label = payloads.status_label(pipeline)
    text = "passed" if pipeline.status == "success" else pipeline.status
    path = f"/{state.projects[pipeline.project].full_path}/-/pipelines/{pipeline.id}"
    return pipeline_basic(state, pipeline) | {
        "before_sha": pipeline.before_sha,
        "tag": pipeline.tag,
        "yaml_errors": pipeline.yaml_errors,
        "user": user(state, state.users[pipeline.user]),
        "started_at": iso_or_none(pipeline.started_at),
        "finished_at": iso_or_none(pipeline.finished_at),
        "committed_at": None,
        "duration": None if duration is None else int(duration),
        "queued_duration": payloads.seconds_between(pipeline.created_at, pipeline.started_at),
        "coverage": None,
        "archived": False,
        "detailed_status": {
            "icon": f"status_{pipeline.status}",
            "text": text,
            "label": label,
            "group": "success-with-warnings" if label.endswith("warnings") else pipeline.status,
            "tooltip": label,
            "has_details": True,
            "details_path": path,
            "favicon": f"/assets/ci_favicons/favicon_status_{pipeline.status}.png",
        },
    }


def pipeline_named(state: State, found: Pipeline) -> Json:
    """Render a single pipeline."""
    return pipeline(state, found) | {"name": found.name}


def job(state: State, job: Job) -> Json:
    """Render a job."""
    project = state.projects[job.project]
    found = state.pipeline_index[job.pipeline]
    return {
        "id": job.id,
        "status": job.status,
        "stage": job.plan.stage,
        "name": job.plan.name,
        "ref": found.ref,
        "tag": found.tag,
        "coverage": None,
        "allow_failure": job.plan.allow_failure,
        "created_at": iso(job.created_at),
        "started_at": iso_or_none(job.started_at),
        "finished_at": iso_or_none(job.finished_at),
        "erased_at": None,
        "duration": payloads.seconds_between(job.started_at, job.finished_at),
        "queued_duration": payloads.seconds_between(job.queued_at, job.started_at),
        "user": user(state, state.users[job.user]),
        "commit": commit(state, project, project.commits[found.sha]),
        "pipeline": pipeline_basic(state, found),
        "web_url": f"{payloads.web_url(state, project)}/-/jobs/{job.id}",
        "project": {"ci_job_token_scope_enabled": False},
        "artifacts": [],
        "runner": None,
        "runner_manager": None,
        "artifacts_expire_at": None,
        "archived": False,
        "tag_list": list(job.plan.tags),
    } | ({"failure_reason": job.failure_reason} if job.failure_reason else {})


def bridge(state: State, found: Job) -> Json:
    """Render a bridge, with the pipeline that it started."""
    part = job(state, found)
    for key in ("artifacts", "runner", "runner_manager", "artifacts_expire_at", "tag_list"):
        del part[key]
    downstream = state.pipeline_index.get(found.downstream or 0)
    return part | {
        "downstream_pipeline": None if downstream is None else pipeline_basic(state, downstream),
    }


def hook(state: State, hooks: Hooks, hook: Hook) -> Json:
    """Render a hook: secrets never, only that they are there, and that only since GitLab 19."""
    part: Json = {
        "id": hook.id,
        "url": hook.url,
        "name": hook.name,
        "description": hook.description,
        "created_at": iso(hook.created_at),
        **{setting: setting in hook.events for setting in HOOK_SETTINGS},
        "enable_ssl_verification": hook.enable_ssl_verification,
        "repository_update_events": False,
        "alert_status": hooks.alert_status(hook),
        "disabled_until": iso_or_none(hook.disabled_until),
        "push_events_branch_filter": hook.push_events_branch_filter,
        "branch_filter_strategy": hook.branch_filter_strategy,
        "custom_webhook_template": hook.custom_webhook_template,
        "url_variables": [{"key": key} for key in hook.url_variables],
        "custom_headers": [{"key": key} for key in hook.custom_headers],
    }
    if hook.project is not None:
        part["project_id"] = hook.project
    if hook.group is not None:
        part |= {"group_id": hook.group, "subgroup_events": False, "member_events": False}
    if state.settings.signs_hooks:
        part |= {"token_present": bool(hook.token), "signing_token_present": bool(hook.signing_token)}
    return part


def hook_event(event: HookEvent) -> Json:
    """Render an entry of a hook's log."""
    return {
        "id": event.id,
        "url": event.url,
        "trigger": event.trigger,
        "request_headers": dict(event.request_headers),
        "request_data": event.request_data,
        "response_headers": dict(event.response_headers),
        "response_body": event.response_body,
        "execution_duration": event.seconds,
        "response_status": event.response_status,
    }


def schedule(state: State, schedule: Schedule, *, full: bool = False) -> Json:
    """Render a schedule; alone, with its last pipeline and its variables."""
    part: Json = {
        "id": schedule.id,
        "description": schedule.description,
        "ref": schedule.ref,
        "cron": schedule.cron,
        "cron_timezone": schedule.cron_timezone,
        "next_run_at": iso_or_none(schedule.next_run_at),
        "active": schedule.active,
        "created_at": iso(schedule.created_at),
        "updated_at": iso(schedule.updated_at),
        "owner": user(state, state.users[schedule.owner]),
        "inputs": [{"name": name, "value": value} for name, value in schedule.inputs.items()],
    }
    if full:
        last = state.pipeline_index.get(schedule.pipelines[-1]) if schedule.pipelines else None
        keys = ("id", "sha", "ref", "status")
        basic = None if last is None else pipeline_basic(state, last)
        part["last_pipeline"] = None if basic is None else {key: basic[key] for key in keys}
        part["variables"] = [
            {"key": item.key, "value": item.value, "variable_type": item.variable_type}
            for item in schedule.variables.values()
        ]
    return part


def trigger(state: State, trigger: Trigger, viewer: User) -> Json:
    """Render a trigger token, whole only for its owner."""
    whole = viewer.id == trigger.owner
    return {
        "id": trigger.id,
        "description": trigger.description,
        "token": trigger.token if whole else trigger.token[:4],
        "created_at": iso(trigger.created_at),
        "updated_at": iso(trigger.created_at),
        "last_used": None,
        "owner": user(state, state.users[trigger.owner]),
    }


def registry_repository(state: State, repository: RegistryRepository) -> Json:
    """Render a registry repository."""
    path = registry_path(state, repository)
    return {
        "id": repository.id,
        "name": repository.name,
        "path": path,
        "project_id": repository.project,
        "location": f"{state.settings.registry_host}/{path}",
        "created_at": iso(repository.created_at),
        "cleanup_policy_started_at": None,
        "status": None,
    }


def registry_path(state: State, repository: RegistryRepository) -> str:
    """Name a registry repository; below the project's path, in small letters."""
    project = state.projects[repository.project]
    return "/".join(part for part in (project.full_path.lower(), repository.name) if part)


def registry_tag(state: State, repository: RegistryRepository, tag: RegistryTag) -> Json:
    """Render a tag as lists do: without its digest."""
    path = f"{registry_path(state, repository)}:{tag.name}"
    return {"name": tag.name, "path": path, "location": f"{state.settings.registry_host}/{path}"}


def registry_tag_detail(state: State, repository: RegistryRepository, tag: RegistryTag) -> Json:
    """Render a single tag, with its digest."""
    return registry_tag(state, repository, tag) | {
        "revision": tag.revision,
        "short_revision": tag.revision[:9],
        "digest": tag.digest,
        "created_at": iso(tag.created_at),
        "total_size": tag.total_size,
    }


def environment(environment: Environment) -> Json:
    """Render an environment."""
    return {
        "id": environment.id,
        "name": environment.name,
        "slug": environment.name.replace("/", "-"),
        "external_url": environment.external_url,
        "state": environment.state,
        "tier": environment.tier,
        "created_at": iso(environment.created_at),
        "updated_at": iso(environment.created_at),
    }


def deployment(state: State, deployment: Deployment) -> Json:
    """Render a deployment; none here is made by a job."""
    project = state.projects[deployment.project]
    place = next(item for item in project.environments.values() if item.name == deployment.environment)
    return {
        "id": deployment.id,
        "iid": deployment.iid,
        "ref": deployment.ref,
        "sha": deployment.sha,
        "status": deployment.status,
        "created_at": iso(deployment.created_at),
        "updated_at": iso(deployment.updated_at),
        "user": user(state, state.users[deployment.user]),
        "environment": {"id": place.id, "name": place.name, "external_url": place.external_url},
        "deployable": None,
    }


def merge_request(state: State, merge_request: MergeRequest) -> Json:
    """Render a merge request."""
    project = state.projects[merge_request.project]
    head = project.resolve(merge_request.source_branch)
    return {
        "id": merge_request.id,
        "iid": merge_request.iid,
        "project_id": project.id,
        "title": merge_request.title,
        "description": merge_request.description,
        "state": merge_request.state,
        "created_at": iso(merge_request.created_at),
        "updated_at": iso(merge_request.updated_at),
        "merged_at": iso_or_none(merge_request.merged_at),
        "target_branch": merge_request.target_branch,
        "source_branch": merge_request.source_branch,
        "source_project_id": project.id,
        "target_project_id": project.id,
        "author": user(state, state.users[merge_request.author]),
        "draft": False,
        "labels": [],
        "merge_status": "can_be_merged",
        "detailed_merge_status": "mergeable",
        "sha": None if head is None else head.sha,
        "merge_commit_sha": merge_request.merge_commit_sha,
        "squash_commit_sha": None,
        "user_notes_count": len(merge_request.notes),
        "web_url": f"{payloads.web_url(state, project)}/-/merge_requests/{merge_request.iid}",
    }


def note(state: State, merge_request: MergeRequest, note: Note) -> Json:
    """Render a comment of a merge request."""
    return {
        "id": note.id,
        "type": None,
        "body": note.body,
        "author": user(state, state.users[note.author]),
        "created_at": iso(note.created_at),
        "updated_at": iso(note.updated_at),
        "system": note.system,
        "noteable_id": merge_request.id,
        "noteable_type": "MergeRequest",
        "project_id": merge_request.project,
        "noteable_iid": merge_request.iid,
        "resolvable": False,
        "confidential": note.internal,
        "internal": note.internal,
    }
