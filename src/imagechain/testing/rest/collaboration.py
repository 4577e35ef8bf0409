"""Merge requests with their notes, environments and deployments."""

from imagechain.testing import payloads
from imagechain.testing.calls import (
    Answer,
    Call,
    Endpoint,
    bad_request,
    change,
    forbidden,
    get,
    invalid,
    not_found,
    too_many_requests,
)
from imagechain.testing.rest import render
from imagechain.testing.state import State
from imagechain.testing.times import iso, iso_or_none
from imagechain.testing.values import Deployment, Environment, Json, MergeRequest, Note, Role

NOTE_CHARACTERS_MAX = 1_000_000
_DEPLOYMENT_STATUSES = ("created", "running", "success", "failed", "canceled", "skipped", "blocked")
_DEPLOYMENT_ORDERS = ("id", "iid", "created_at", "updated_at", "finished_at")


def _render_environment(environment: Environment) -> Json:
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


def _render_deployment(state: State, deployment: Deployment) -> Json:
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
        "user": render.user(state, state.users[deployment.user]),
        "environment": {"id": place.id, "name": place.name, "external_url": place.external_url},
        "deployable": None,
    }


def _render_merge_request(state: State, merge_request: MergeRequest) -> Json:
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
        "author": render.user(state, state.users[merge_request.author]),
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


def _render_note(state: State, merge_request: MergeRequest, note: Note) -> Json:
    """Render a comment of a merge request."""
    return {
        "id": note.id,
        "type": None,
        "body": note.body,
        "author": render.user(state, state.users[note.author]),
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


def _merge_request(call: Call) -> MergeRequest:
    return call.found(call.project.merge_requests, "iid", "Merge Request")


def _list_merge_requests(call: Call) -> Answer:
    rows = sorted(call.project.merge_requests.values(), key=lambda item: -item.iid)
    state = call.choice("state", ("opened", "closed", "locked", "merged", "all"), "all")
    rows = [item for item in rows if state in {"all", item.state}]
    for name in ("source_branch", "target_branch"):
        if (wanted := call.optional_text(name)) is not None:
            rows = [item for item in rows if getattr(item, name) == wanted]
    return call.page(rows, lambda item: _render_merge_request(call.state, item))


def _get_merge_request(call: Call) -> Answer:
    """Show one; only here its head pipeline is told."""
    found = _merge_request(call)
    branch, sha = found.source_branch, call.project.branches.get(found.source_branch)
    pipelines = [
        item
        for item in call.project.pipelines.values()
        if item.merge_request == found.iid or (not item.tag and (item.ref, item.sha) == (branch, sha))
    ]
    # Those of the merge request come first; without one, that of its branch counts.
    head = max(pipelines, key=lambda item: (item.merge_request == found.iid, item.id), default=None)
    head_pipeline = None if head is None else render.pipeline_basic(call.state, head)
    return Answer(data=_render_merge_request(call.state, found) | {"head_pipeline": head_pipeline})


def _create_merge_request(call: Call) -> Answer:
    found = call.parts.collaboration.open_merge_request(
        call.project,
        author=call.user,
        source=call.text("source_branch"),
        target=call.text("target_branch"),
        title=call.text("title"),
        description=call.optional_text("description") or "",
    )
    return Answer(status=201, data=_render_merge_request(call.state, found))


def _run_merge_request(call: Call) -> Answer:
    found = _merge_request(call)
    pipeline = call.parts.collaboration.run_merge_request(call.project, found, call.user)
    return Answer(status=201, data=render.pipeline(call.state, pipeline))


def _merge_request_pipelines(call: Call) -> Answer:
    iid = _merge_request(call).iid
    rows = [item for item in call.project.pipelines.values() if item.merge_request == iid]
    return call.page(rows[::-1], lambda item: render.pipeline_basic(call.state, item))


# --- notes


def _note(call: Call) -> Note:
    return call.found(_merge_request(call).notes, "note_id", "Note")


def _list_notes(call: Call) -> Answer:
    found = _merge_request(call)
    order = call.choice("order_by", ("created_at", "updated_at"), "created_at")
    descending = call.choice("sort", ("asc", "desc"), "desc") == "desc"
    hidden = call.role < Role.REPORTER
    rows = [note for note in found.notes.values() if not (note.internal and hidden)]
    rows.sort(key=lambda note: (getattr(note, order), note.id), reverse=descending)
    return call.page(rows, lambda note: _render_note(call.state, found, note))


def _get_note(call: Call) -> Answer:
    return Answer(data=_render_note(call.state, _merge_request(call), _note(call)))


def _body(call: Call) -> str:
    body = call.text("body")
    if len(body) > NOTE_CHARACTERS_MAX:
        raise bad_request({"note": ["is too long (maximum is 1000000 characters)"]})
    return body


def _create_note(call: Call) -> Answer:
    """Comment; a body of quick actions alone makes no note, but another answer."""
    found, body = _merge_request(call), _body(call)
    limit = call.state.settings.notes_per_minute_max
    if call.state.rates.take(("notes", call.user.id), limit) is None:
        raise too_many_requests("This endpoint has been requested too many times. Try again later.")
    if all(line.startswith("/") for line in body.strip().splitlines()):
        return Answer(status=202, data={"commands_changes": {}, "summary": ["Applied the commands."]})
    note = call.parts.collaboration.add_note(
        call.project, found, author=call.user, body=body, internal=call.flag("internal")
    )
    return Answer(status=201, data=_render_note(call.state, found, note))


def _own_note(call: Call) -> Note:
    note = _note(call)
    if note.author != call.user.id and call.role < Role.MAINTAINER:
        raise forbidden()
    return note


def _update_note(call: Call) -> Answer:
    found, note = _merge_request(call), _own_note(call)
    call.parts.collaboration.edit_note(call.project, found, note, _body(call))
    return Answer(data=_render_note(call.state, found, note))


def _delete_note(call: Call) -> Answer:
    del _merge_request(call).notes[_own_note(call).id]
    return Answer(status=204)


# --- deployments


def _list_environments(call: Call) -> Answer:
    rows = list(call.project.environments.values())
    if (name := call.optional_text("name")) is not None:
        rows = [environment for environment in rows if environment.name == name]
    return call.page(rows, _render_environment)


def _get_environment(call: Call) -> Answer:
    return Answer(
        data=_render_environment(call.found(call.project.environments, "environment_id", "Environment"))
    )


def _create_environment(call: Call) -> Answer:
    environment = call.parts.collaboration.environment(call.project, call.text("name"))
    environment.external_url = call.optional_text("external_url")
    environment.tier = call.optional_text("tier") or environment.tier
    return Answer(status=201, data=_render_environment(environment))


def _list_deployments(call: Call) -> Answer:
    order = call.choice("order_by", _DEPLOYMENT_ORDERS, "id")
    descending = call.choice("sort", ("asc", "desc"), "asc") == "desc"
    rows = list(call.project.deployments.values())
    for name in ("updated", "finished"):
        after, before = call.time(f"{name}_after"), call.time(f"{name}_before")
        if after is None and before is None:
            continue
        if order != f"{name}_at":
            raise bad_request(f"`{name}_at` filter requires `{name}_at` sort")
        if name == "finished" and call.optional_text("status") != "success":
            raise bad_request("`finished_at` filter must be combined with `success` status filter.")
        start, end = after or 0.0, float("inf") if before is None else before
        rows = [row for row in rows if start < (getattr(row, f"{name}_at") or 0.0) < end]
    for name in ("environment", "status"):
        if (wanted := call.optional_text(name)) is not None:
            rows = [row for row in rows if getattr(row, name) == wanted]
    rows.sort(key=lambda row: (getattr(row, order) or 0.0, row.id), reverse=descending)
    return call.page(rows, lambda row: _render_deployment(call.state, row))


def _deployment(call: Call) -> Deployment:
    return call.found(call.project.deployments, "deployment_id", "Deployment")


def _get_deployment(call: Call) -> Answer:
    return Answer(data=_render_deployment(call.state, _deployment(call)))


def _status(call: Call) -> str:
    status = call.text("status")
    if status not in _DEPLOYMENT_STATUSES:
        raise invalid("status", "does not have a valid value")
    return status


def _create_deployment(call: Call) -> Answer:
    deployment = call.parts.collaboration.deploy(
        call.project,
        environment=call.text("environment"),
        ref=call.text("ref"),
        sha=call.text("sha"),
        status=_status(call),
        user=call.user,
        tag=call.flag("tag"),
    )
    return Answer(status=201, data=_render_deployment(call.state, deployment))


def _update_deployment(call: Call) -> Answer:
    deployment = _deployment(call)
    call.parts.collaboration.set_deployment_status(call.project, deployment, _status(call))
    return Answer(data=_render_deployment(call.state, deployment))


# --- commits


def _commit_merge_requests(call: Call) -> Answer:
    """List the merge requests whose merge made the commit, or whose branch holds it."""
    sha = call.names["sha"]
    rows = [
        item
        for item in call.project.merge_requests.values()
        if item.merge_commit_sha == sha or call.project.branches.get(item.source_branch) == sha
    ]
    return call.page(rows, lambda item: _render_merge_request(call.state, item))


def _commit_comments(call: Call) -> Answer:
    rows = call.project.commit_comments.get(call.names["sha"], [])
    return call.page(rows, lambda note: {"note": note, "path": None, "line": None, "line_type": None})


def _comment_commit(call: Call) -> Answer:
    sha = call.names["sha"]
    if sha not in call.project.commits:
        raise not_found("Commit")
    note = call.text("note")
    call.project.commit_comments.setdefault(sha, []).append(note)
    return Answer(status=201, data={"note": note, "path": None, "line": None, "line_type": None})


_COMMIT = "projects/:id/repository/commits/:sha"
_MERGE_REQUEST = "projects/:id/merge_requests/:iid"
_NOTE = f"{_MERGE_REQUEST}/notes/:note_id"
ENDPOINTS: tuple[Endpoint, ...] = (
    get("projects/:id/merge_requests", _list_merge_requests),
    change("POST", "projects/:id/merge_requests", _create_merge_request),
    get(_MERGE_REQUEST, _get_merge_request),
    get(f"{_MERGE_REQUEST}/pipelines", _merge_request_pipelines),
    change("POST", f"{_MERGE_REQUEST}/pipelines", _run_merge_request),
    get(f"{_MERGE_REQUEST}/notes", _list_notes),
    change("POST", f"{_MERGE_REQUEST}/notes", _create_note, role=Role.REPORTER),
    get(_NOTE, _get_note),
    change("PUT", _NOTE, _update_note, role=Role.REPORTER),
    change("DELETE", _NOTE, _delete_note, role=Role.REPORTER),
    get(f"{_COMMIT}/merge_requests", _commit_merge_requests),
    get(f"{_COMMIT}/comments", _commit_comments),
    change("POST", f"{_COMMIT}/comments", _comment_commit, role=Role.REPORTER),
    get("projects/:id/environments", _list_environments),
    get("projects/:id/environments/:environment_id", _get_environment),
    change("POST", "projects/:id/environments", _create_environment),
    get("projects/:id/deployments", _list_deployments),
    get("projects/:id/deployments/:deployment_id", _get_deployment),
    change("POST", "projects/:id/deployments", _create_deployment),
    change("PUT", "projects/:id/deployments/:deployment_id", _update_deployment),
)
