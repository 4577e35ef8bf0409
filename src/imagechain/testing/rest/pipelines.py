"""Pipelines, jobs, bridges and trigger tokens."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

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
)
from imagechain.testing.rest import render
from imagechain.testing.state import State
from imagechain.testing.times import iso
from imagechain.testing.values import FINISHED, Job, Json, Pipeline, Project, Role, Trigger, User, Variable

_SCOPES: Mapping[str, Callable[[Project, Pipeline], bool]] = {
    "running": lambda _, item: item.status == "running",
    "pending": lambda _, item: item.status == "pending",
    "finished": lambda _, item: item.status in FINISHED,
    "branches": lambda project, item: not item.tag and item.ref in project.branches,
    "tags": lambda _, item: item.tag,
}
_ORDERS: Mapping[str, Callable[[Pipeline], Any]] = {
    "id": lambda item: item.id,
    "status": lambda item: (item.status, item.id),
    "ref": lambda item: (item.ref, item.id),
    "updated_at": lambda item: (item.updated_at, item.id),
    "user_id": lambda item: (item.user, item.id),
}


def _render_trigger(state: State, trigger: Trigger, viewer: User) -> Json:
    """Render a trigger token, whole only for its owner."""
    whole = viewer.id == trigger.owner
    return {
        "id": trigger.id,
        "description": trigger.description,
        "token": trigger.token if whole else trigger.token[:4],
        "created_at": iso(trigger.created_at),
        "updated_at": iso(trigger.created_at),
        "last_used": None,
        "owner": render.user(state, state.users[trigger.owner]),
    }


def select_pipelines(project: Project, filters: Mapping[str, str | None]) -> list[Pipeline]:
    """List the pipelines whose fields have these values; child pipelines only where they are asked for."""
    wanted = {name: value for name, value in filters.items() if value is not None}
    return [
        item
        for item in project.pipelines.values()
        if (item.source != "parent_pipeline" or wanted.get("source") == "parent_pipeline")
        and all(getattr(item, name) == value for name, value in wanted.items())
    ]


def _list_pipelines(call: Call) -> Answer:
    names = ("status", "source", "ref", "sha", "name")
    pipelines = select_pipelines(call.project, {name: call.optional_text(name) for name in names})
    if (scope := call.optional_text("scope")) is not None:
        if scope not in _SCOPES:
            raise invalid("scope", "does not have a valid value")
        pipelines = [item for item in pipelines if _SCOPES[scope](call.project, item)]
    if (username := call.optional_text("username")) is not None:
        pipelines = [p for p in pipelines if call.state.users[p.user].username == username]
    for name in ("updated", "created"):
        after, before = call.time(f"{name}_after"), call.time(f"{name}_before")
        pipelines = [
            item
            for item in pipelines
            if (after is None or getattr(item, f"{name}_at") > after)
            and (before is None or getattr(item, f"{name}_at") < before)
        ]
    order = call.choice("order_by", tuple(_ORDERS), "id")
    descending = call.choice("sort", ("asc", "desc"), "desc") == "desc"
    pipelines.sort(key=_ORDERS[order], reverse=descending)
    return call.page(pipelines, lambda item: render.pipeline_item(call.state, item))


def _pipeline(call: Call) -> Pipeline:
    return call.found(call.project.pipelines, "pipeline_id", "Pipeline")


def _get_pipeline(call: Call) -> Answer:
    return Answer(data=render.pipeline_named(call.state, _pipeline(call)))


def _latest_pipeline(call: Call) -> Answer:
    """Answer 403 where there is none, as GitLab does."""
    ref = call.optional_text("ref") or call.project.default_branch
    found = max(select_pipelines(call.project, {"ref": ref}), key=lambda item: item.id, default=None)
    if found is None:
        raise forbidden()
    return Answer(data=render.pipeline_named(call.state, found))


def _read_variables(given: object) -> list[Variable]:
    if given is None:
        return []
    if not isinstance(given, list) or not all(isinstance(item, dict) and "key" in item for item in given):
        raise invalid("variables")
    return [
        Variable(
            key=str(item["key"]),
            value=str(item.get("value", "")),
            variable_type=str(item.get("variable_type", "env_var")),
        )
        for item in given
    ]


def _inputs(call: Call) -> Json:
    inputs = call.params.get("inputs") or {}
    if not isinstance(inputs, dict):
        raise invalid("inputs")
    return inputs


def _create_pipeline(call: Call) -> Answer:
    pipeline = call.parts.pipelines.create(
        call.project,
        call.text("ref"),
        user=call.user,
        variables=_read_variables(call.params.get("variables")),
        inputs=_inputs(call),
    )
    return Answer(status=201, data=render.pipeline(call.state, pipeline))


def _retry(call: Call) -> Answer:
    pipeline = _pipeline(call)
    call.parts.pipelines.retry(pipeline)
    return Answer(status=201, data=render.pipeline(call.state, pipeline))


def _cancel(call: Call) -> Answer:
    pipeline = _pipeline(call)
    call.parts.pipelines.cancel(pipeline)
    return Answer(data=render.pipeline(call.state, pipeline))


def _rename(call: Call) -> Answer:
    pipeline = _pipeline(call)
    pipeline.name = call.text("name")
    return Answer(data=render.pipeline_named(call.state, pipeline))


def _delete(call: Call) -> Answer:
    pipeline = _pipeline(call)
    call.parts.pipelines.cancel(pipeline)
    del call.project.pipelines[pipeline.id]
    return Answer(status=204)


def _pipeline_variables(call: Call) -> Answer:
    return Answer(data=[msgspec.to_builtins(variable) for variable in _pipeline(call).variables])


# --- jobs


def _selected(call: Call, jobs: Iterable[Job]) -> list[Job]:
    scopes = call.texts("scope")
    retried = call.flag("include_retried")
    return [job for job in jobs if (retried or not job.retried) and (not scopes or job.status in scopes)]


def _pipeline_jobs(call: Call) -> Answer:
    jobs = [job for job in _pipeline(call).jobs if job.plan.trigger is None]
    return call.page(_selected(call, jobs)[::-1], lambda job: render.job(call.state, job))


def _bridges(call: Call) -> Answer:
    jobs = [job for job in _pipeline(call).jobs if job.plan.trigger is not None]
    return call.page(_selected(call, jobs)[::-1], lambda job: render.bridge(call.state, job))


def _project_jobs(call: Call) -> Answer:
    jobs = [job for item in call.project.pipelines.values() for job in item.jobs if job.plan.trigger is None]
    jobs.sort(key=lambda job: -job.id)
    return call.page(_selected(call, jobs), lambda job: render.job(call.state, job))


def _job(call: Call) -> Job:
    job = call.found(call.state.job_index, "job_id")
    if job.project != call.project.id:
        raise not_found()
    return job


def _get_job(call: Call) -> Answer:
    return Answer(data=render.job(call.state, _job(call)))


def _job_trace(call: Call) -> Answer:
    return Answer(body=bytes(_job(call).trace), content_type="text/plain")


def _retry_job(call: Call) -> Answer:
    job = _job(call)
    if job.status not in FINISHED or job.retried:
        raise forbidden("Job is not retryable")
    return Answer(status=201, data=render.job(call.state, call.parts.pipelines.retry_job(job)))


def _play_job(call: Call) -> Answer:
    job = _job(call)
    call.parts.pipelines.play(job)
    return Answer(data=render.job(call.state, job))


def _cancel_job(call: Call) -> Answer:
    job = _job(call)
    call.parts.pipelines.cancel_job(job)
    return Answer(status=201, data=render.job(call.state, job))


# --- trigger tokens


def _trigger_pipeline(call: Call) -> Answer:
    """Start a pipeline by a trigger token: it needs no other, and a wrong one finds no project."""
    if call.headers.get("x-gitlab-event") == "Pipeline Hook":
        raise forbidden()
    project = call.state.find_project(call.names["id"])
    token = call.text("token")
    found = (
        next((item for item in project.triggers.values() if item.token == token), None) if project else None
    )
    if project is None or found is None:
        raise not_found()
    ref = call.names.get("ref") or call.text("ref")
    given = call.params.get("variables") or {}
    if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
        raise bad_request("variables needs to be a map of key-valued strings")
    pipeline = call.parts.pipelines.create(
        project,
        ref,
        user=call.state.users[found.owner],
        source="trigger",
        variables=[Variable(key=key, value=value) for key, value in given.items()],
        inputs=_inputs(call),
    )
    return Answer(status=201, data=render.pipeline(call.state, pipeline))


def _list_triggers(call: Call) -> Answer:
    rows = list(call.project.triggers.values())
    return call.page(rows, lambda item: _render_trigger(call.state, item, call.user))


def _create_trigger(call: Call) -> Answer:
    state = call.state
    trigger = Trigger(
        id=state.next_id("trigger"),
        project=call.project.id,
        owner=call.user.id,
        description=call.text("description"),
        token=f"glptt-{state.random.getrandbits(80):020x}",
        created_at=state.clock(),
    )
    call.project.triggers[trigger.id] = trigger
    return Answer(status=201, data=_render_trigger(state, trigger, call.user))


def _delete_trigger(call: Call) -> Answer:
    trigger = call.found(call.project.triggers, "trigger_id", "Trigger")
    del call.project.triggers[trigger.id]
    return Answer(status=204)


_PIPELINE = "projects/:id/pipelines/:pipeline_id"
_JOB = "projects/:id/jobs/:job_id"
ENDPOINTS: tuple[Endpoint, ...] = (
    get("projects/:id/pipelines", _list_pipelines),
    get("projects/:id/pipelines/latest", _latest_pipeline),
    change("POST", "projects/:id/pipeline", _create_pipeline),
    get(_PIPELINE, _get_pipeline),
    change("DELETE", _PIPELINE, _delete, role=Role.OWNER),
    change("POST", f"{_PIPELINE}/retry", _retry),
    change("POST", f"{_PIPELINE}/cancel", _cancel),
    change("PUT", f"{_PIPELINE}/metadata", _rename),
    get(f"{_PIPELINE}/variables", _pipeline_variables, role=Role.DEVELOPER),
    get(f"{_PIPELINE}/jobs", _pipeline_jobs),
    get(f"{_PIPELINE}/bridges", _bridges),
    get("projects/:id/jobs", _project_jobs),
    get(_JOB, _get_job),
    get(f"{_JOB}/trace", _job_trace),
    change("POST", f"{_JOB}/retry", _retry_job),
    change("POST", f"{_JOB}/play", _play_job),
    change("POST", f"{_JOB}/cancel", _cancel_job),
    Endpoint(method="POST", path="projects/:id/trigger/pipeline", handler=_trigger_pipeline, scopes=None),
    Endpoint(
        method="POST", path="projects/:id/ref/:ref/trigger/pipeline", handler=_trigger_pipeline, scopes=None
    ),
    get("projects/:id/triggers", _list_triggers, role=Role.MAINTAINER, login=True),
    change("POST", "projects/:id/triggers", _create_trigger, role=Role.MAINTAINER),
    change("DELETE", "projects/:id/triggers/:trigger_id", _delete_trigger, role=Role.MAINTAINER),
)
