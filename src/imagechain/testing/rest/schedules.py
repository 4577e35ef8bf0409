"""Pipeline schedules."""

from imagechain.testing.calls import Answer, Call, Endpoint, change, forbidden, get, invalid
from imagechain.testing.rest import render
from imagechain.testing.state import State
from imagechain.testing.times import iso, iso_or_none
from imagechain.testing.values import Json, Role, Schedule, Variable


def _render(state: State, schedule: Schedule, *, full: bool = False) -> Json:
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
        "owner": render.user(state, state.users[schedule.owner]),
        "inputs": [{"name": name, "value": value} for name, value in schedule.inputs.items()],
    }
    if full:
        last = state.pipeline_index.get(schedule.pipelines[-1]) if schedule.pipelines else None
        keys = ("id", "sha", "ref", "status")
        basic = None if last is None else render.pipeline_basic(state, last)
        part["last_pipeline"] = None if basic is None else {key: basic[key] for key in keys}
        part["variables"] = [
            {"key": item.key, "value": item.value, "variable_type": item.variable_type}
            for item in schedule.variables.values()
        ]
    return part


def _schedule(call: Call) -> Schedule:
    return call.found(call.project.schedules, "schedule_id", "Pipeline Schedule")


def _own(call: Call) -> Schedule:
    """Find a schedule that the caller may change: their own, or any for a maintainer."""
    schedule = _schedule(call)
    if schedule.owner != call.user.id and call.role < Role.MAINTAINER:
        raise forbidden()
    return schedule


def _list(call: Call) -> Answer:
    rows = list(call.project.schedules.values())
    if (scope := call.optional_text("scope")) is not None:
        rows = [schedule for schedule in rows if schedule.active == (scope == "active")]
    return call.page(rows, lambda schedule: _render(call.state, schedule))


def _get(call: Call) -> Answer:
    return Answer(data=_render(call.state, _schedule(call), full=True))


def _create(call: Call) -> Answer:
    schedule = call.parts.schedules.create(
        call.project,
        owner=call.user,
        ref=call.text("ref"),
        cron=call.text("cron"),
        description=call.text("description"),
        cron_timezone=call.optional_text("cron_timezone") or "UTC",
        active=call.flag("active", default=True),
    )
    _set_inputs(call, schedule)
    return Answer(status=201, data=_render(call.state, schedule, full=True))


def _set_inputs(call: Call, schedule: Schedule) -> None:
    inputs = call.params.get("inputs") or []
    if not isinstance(inputs, list) or not all(isinstance(item, dict) and "name" in item for item in inputs):
        raise invalid("inputs")
    for item in inputs:
        if item.get("destroy"):
            schedule.inputs.pop(item["name"], None)
        else:
            schedule.inputs[item["name"]] = item.get("value")


def _update(call: Call) -> Answer:
    schedule = _own(call)
    for name in ("description", "cron", "cron_timezone"):
        if (value := call.optional_text(name)) is not None:
            setattr(schedule, name, value)
    if (ref := call.optional_text("ref")) is not None:
        schedule.ref = ref if ref.startswith("refs/") else f"refs/heads/{ref}"
    schedule.active = call.flag("active", default=schedule.active)
    _set_inputs(call, schedule)
    call.parts.schedules.plan_next(schedule)
    schedule.updated_at = call.state.clock()
    return Answer(data=_render(call.state, schedule, full=True))


def _delete(call: Call) -> Answer:
    del call.project.schedules[_own(call).id]
    return Answer(status=204)


def _play(call: Call) -> Answer:
    call.parts.schedules.play(_schedule(call), call.user)
    return Answer(status=201, data={"message": "201 Created"})


def _take_ownership(call: Call) -> Answer:
    schedule = _schedule(call)
    schedule.owner = call.user.id
    return Answer(status=201, data=_render(call.state, schedule, full=True))


def _list_pipelines(call: Call) -> Answer:
    rows = [
        call.project.pipelines[found]
        for found in _schedule(call).pipelines
        if found in call.project.pipelines
    ]
    return call.page(rows, lambda pipeline: render.pipeline_item(call.state, pipeline))


def _create_variable(call: Call) -> Answer:
    schedule = _own(call)
    kind = call.choice("variable_type", ("env_var", "file"), "env_var")
    variable = Variable(key=call.text("key"), value=call.text("value"), variable_type=kind)
    schedule.variables[variable.key] = variable
    data = {
        "key": variable.key,
        "value": variable.value,
        "variable_type": variable.variable_type,
        "raw": False,
    }
    return Answer(status=201, data=data)


_SCHEDULE = "projects/:id/pipeline_schedules/:schedule_id"
ENDPOINTS: tuple[Endpoint, ...] = (
    get("projects/:id/pipeline_schedules", _list),
    change("POST", "projects/:id/pipeline_schedules", _create),
    get(_SCHEDULE, _get),
    change("PUT", _SCHEDULE, _update),
    change("DELETE", _SCHEDULE, _delete),
    change("POST", f"{_SCHEDULE}/play", _play),
    change("POST", f"{_SCHEDULE}/take_ownership", _take_ownership, role=Role.MAINTAINER),
    change("POST", f"{_SCHEDULE}/variables", _create_variable),
    get(f"{_SCHEDULE}/pipelines", _list_pipelines),
)
