"""The JSON of records that several subjects show: people, projects, commits, pipelines, jobs.

Shapes: GitLab's API pages, its OpenAPI file and JSON schemas.
"""

from imagechain.testing import payloads
from imagechain.testing.state import State
from imagechain.testing.times import iso, iso_or_none
from imagechain.testing.values import (
    Commit,
    Group,
    Job,
    Json,
    Pipeline,
    Project,
    Token,
    User,
)


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
        "artifacts": _artifacts(job),
        "runner": None,
        "runner_manager": None,
        "artifacts_expire_at": None,
        "archived": False,
        "tag_list": list(job.plan.tags),
    } | ({"failure_reason": job.failure_reason} if job.failure_reason else {})


def _artifacts(job: Job) -> list[Json]:
    return [
        {
            "file_type": one.type,
            "size": len(one.content),
            "filename": one.filename,
            "file_format": one.format,
        }
        for one in job.artifacts.values()
    ]


def bridge(state: State, found: Job) -> Json:
    """Render a bridge, with the pipeline that it started."""
    part = job(state, found)
    for key in ("artifacts", "runner", "runner_manager", "artifacts_expire_at", "tag_list"):
        del part[key]
    downstream = state.pipeline_index.get(found.downstream or 0)
    return part | {
        "downstream_pipeline": None if downstream is None else pipeline_basic(state, downstream),
    }
