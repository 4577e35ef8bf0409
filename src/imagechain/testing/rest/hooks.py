"""Webhooks of projects and groups: their settings, log, tests and resends."""

from urllib.parse import urlsplit

from imagechain.testing.calls import (
    Answer,
    ApiError,
    Call,
    Endpoint,
    change,
    get,
    invalid,
    not_found,
    too_many_requests,
)
from imagechain.testing.hooks import Hooks, successful, valid_signing_token
from imagechain.testing.state import State
from imagechain.testing.times import iso, iso_or_none
from imagechain.testing.values import Hook, HookEvent, Json, Role

HOOK_SETTINGS = (
    "push_events", "issues_events", "confidential_issues_events", "merge_requests_events", "tag_push_events",
    "note_events", "confidential_note_events", "job_events", "pipeline_events", "wiki_page_events",
    "deployment_events", "releases_events", "milestone_events", "feature_flag_events", "emoji_events",
    "resource_access_token_events", "vulnerability_events",
)  # fmt: skip
URL_CHARACTERS_MAX = 8192
CUSTOM_HEADERS_MAX = 20
TEMPLATE_CHARACTERS_MAX = 4096
RESENDS_PER_MINUTE_MAX = 5
_GROUP_SETTINGS = ("project_events", "member_events", "subgroup_events")
_SETTINGS = HOOK_SETTINGS + _GROUP_SETTINGS


def _render_hook(state: State, hooks: Hooks, hook: Hook) -> Json:
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
        part["group_id"] = hook.group
        part |= {setting: setting in hook.events for setting in _GROUP_SETTINGS}
    if state.settings.signs_hooks:
        part |= {"token_present": bool(hook.token), "signing_token_present": bool(hook.signing_token)}
    return part


def _render_event(event: HookEvent) -> Json:
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


def _owned(call: Call) -> list[Hook]:
    if call.project_or_none is not None:
        return call.state.project_hooks(call.project)
    if not call.state.settings.enterprise:
        raise ApiError(404, {"error": "404 Not Found"})
    return call.state.group_hooks(call.group)


def _hook(call: Call) -> Hook:
    return call.found({hook.id: hook for hook in _owned(call)}, "hook_id")


def _render(call: Call, hook: Hook) -> Json:
    return _render_hook(call.state, call.parts.hooks, hook)


def _list(call: Call) -> Answer:
    return call.page(_owned(call), lambda hook: _render(call, hook))


def _get(call: Call) -> Answer:
    return Answer(data=_render(call, _hook(call)))


def _pairs(call: Call, name: str) -> dict[str, str] | None:
    """Read custom headers or URL variables: a list of keys with values."""
    given = call.params.get(name)
    if given is None:
        return None
    if not isinstance(given, list) or not all(isinstance(item, dict) and "key" in item for item in given):
        raise invalid(name)
    if len(given) > CUSTOM_HEADERS_MAX:
        raise ApiError(422, {"message": f"{name} has too many entries"})
    return {str(item["key"]): str(item.get("value", "")) for item in given}


def _apply(call: Call, hook: Hook) -> None:
    """Set what the request names. Another URL forgets the token and the headers, unless sent again."""
    url = call.text("url")
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or len(url) > URL_CHARACTERS_MAX:
        raise ApiError(422, {"error": "Invalid url given"})
    template = call.optional_text("custom_webhook_template")
    if template is not None and len(template) > TEMPLATE_CHARACTERS_MAX:
        raise ApiError(
            422, {"message": {"custom_webhook_template": ["is too long (maximum is 4096 characters)"]}}
        )
    signing_token = call.optional_text("signing_token")
    if call.state.settings.signs_hooks and signing_token:
        if not valid_signing_token(signing_token):
            raise ApiError(422, {"message": {"signing_token": ["is invalid"]}})
        hook.signing_token = signing_token
    elif call.state.settings.signs_hooks and signing_token == "":
        hook.signing_token = ""
    if url != hook.url:
        hook.token, hook.custom_headers = "", {}
        hook.url = url
    token = call.optional_text("token")
    if token is not None:
        hook.token = token.replace("\n", "")
    hook.custom_headers = _pairs(call, "custom_headers") or hook.custom_headers
    hook.url_variables = _pairs(call, "url_variables") or hook.url_variables
    chosen = {name: name in hook.events for name in _SETTINGS}
    hook.events = frozenset(name for name, was in chosen.items() if call.flag(name, default=was))
    for name in ("name", "description", "push_events_branch_filter", "custom_webhook_template"):
        if (value := call.optional_text(name)) is not None:
            setattr(hook, name, value)
    strategies = ("wildcard", "regex", "all_branches")
    hook.branch_filter_strategy = call.choice(
        "branch_filter_strategy", strategies, hook.branch_filter_strategy
    )
    hook.enable_ssl_verification = call.flag("enable_ssl_verification", default=hook.enable_ssl_verification)


def _create(call: Call) -> Answer:
    settings = call.state.settings
    in_project = call.project_or_none is not None
    owned = _owned(call)
    most = settings.hooks_per_project_max if in_project else settings.hooks_per_group_max
    if len(owned) >= most:
        raise ApiError(422, {"message": {"base": [f"Maximum number of webhooks ({most}) exceeded"]}})
    hook = Hook(
        id=0,
        url="",
        created_at=call.state.clock(),
        project=call.project.id if in_project else None,
        group=None if in_project else call.group.id,
    )
    _apply(call, hook)
    hook.id = call.state.next_id("hook")
    call.state.add_hook(hook)
    return Answer(status=201, data=_render(call, hook))


def _update(call: Call) -> Answer:
    hook = _hook(call)
    _apply(call, hook)
    return Answer(data=_render(call, hook))


def _delete(call: Call) -> Answer:
    call.state.remove_hook(_hook(call))
    return Answer(status=204)


def _set_pair(call: Call) -> Answer:
    hook = _hook(call)
    pairs = hook.custom_headers if "custom_headers" in call.path else hook.url_variables
    pairs[call.names["key"]] = call.text("value")
    return Answer(status=204)


def _delete_pair(call: Call) -> Answer:
    hook = _hook(call)
    pairs = hook.custom_headers if "custom_headers" in call.path else hook.url_variables
    pairs.pop(call.names["key"], None)
    return Answer(status=204)


def _events(call: Call) -> Answer:
    wanted = call.optional_text("status")
    groups = {"successful": "23", "client_failure": "4", "server_failure": "5i"}

    def matches(event: HookEvent) -> bool:
        if wanted is None:
            return True
        return event.response_status[0] in groups.get(wanted, "") or event.response_status == wanted

    rows = [event for event in reversed(_hook(call).log) if matches(event)]
    return call.page(rows, _render_event)


async def _test(call: Call) -> Answer:
    """Call the hook at once, even a disabled one; success enables it again."""
    hook, trigger = _hook(call), call.names["trigger"]
    limit = call.state.settings.hook_tests_per_minute_max
    key = ("hook test", call.project.id, call.user.id)
    if call.state.rates.take(key, limit) is None:
        raise too_many_requests("This endpoint has been requested too many times. Try again later.")
    sample = call.parts.hooks.sample(call.project, trigger)
    if trigger not in HOOK_SETTINGS:
        raise invalid("trigger", "does not have a valid value")
    if sample is None:
        raise ApiError(422, {"message": f"Ensure the project has data for {trigger}."})
    event = await call.parts.hooks.test(hook, *sample)
    if not successful([event]):
        raise ApiError(422, {"message": event.response_body or event.response_status})
    return Answer(status=201, data={"message": "201 Created"})


async def _resend(call: Call) -> Answer:
    hook = _hook(call)
    wanted = call.number_in_path("event_id", "")
    event = next((event for event in hook.log if event.id == wanted), None)
    if event is None:
        raise not_found()
    if call.state.rates.take(("resend", hook.id, call.user.id), RESENDS_PER_MINUTE_MAX) is None:
        raise too_many_requests("This endpoint has been requested too many times. Try again later.")
    again = await call.parts.hooks.resend(hook, event)
    return Answer(status=201, data={"response_status": again.response_status})


def _endpoints(owner: str, role: Role) -> tuple[Endpoint, ...]:
    hooks, hook = f"{owner}/:id/hooks", f"{owner}/:id/hooks/:hook_id"
    return (
        get(hooks, _list, role=role, login=True),
        change("POST", hooks, _create, role=role),
        get(hook, _get, role=role, login=True),
        change("PUT", hook, _update, role=role),
        change("DELETE", hook, _delete, role=role),
        get(f"{hook}/events", _events, role=role, login=True),
        change("POST", f"{hook}/events/:event_id/resend", _resend, role=role),
        change("PUT", f"{hook}/custom_headers/:key", _set_pair, role=role),
        change("DELETE", f"{hook}/custom_headers/:key", _delete_pair, role=role),
        change("PUT", f"{hook}/url_variables/:key", _set_pair, role=role),
        change("DELETE", f"{hook}/url_variables/:key", _delete_pair, role=role),
    )


ENDPOINTS: tuple[Endpoint, ...] = (
    *_endpoints("projects", Role.MAINTAINER),
    *_endpoints("groups", Role.OWNER),
    change("POST", "projects/:id/hooks/:hook_id/test/:trigger", _test, role=Role.MAINTAINER),
)
