"""Section 7 of the contract, points 1 to 5: when hooks are called, how, and what becomes of them."""

import hashlib
import hmac
import json
from base64 import b64decode
from pathlib import Path
from typing import Any

import httpx2
import pytest

from imagechain.testing import Role
from imagechain.testing.hooks import event_header
from imagechain.testing.values import NO_COMMIT, RefChange
from testing.gitlab_world import URL, World


def test_nothing_is_sent_before_the_queue_is_drained() -> None:
    world = World()
    world.hook("push_events")
    world.gitlab.push("images/base", {"a": "1"})
    assert (world.gitlab.hooks.waiting, len(world.receiver.calls)) == (1, 0)
    world.deliver()
    assert (world.gitlab.hooks.waiting, len(world.receiver.calls)) == (0, 1)


@pytest.mark.parametrize("status", [400, 404, 500, 503])
def test_a_failed_call_is_never_repeated(status: int) -> None:
    world = World()
    world.hook("push_events")
    world.receiver.status = status
    world.gitlab.push("images/base", {"a": "1"})
    world.deliver()
    world.clock.now += 100_000
    assert world.deliver() == 0
    assert len(world.receiver.calls) == 1


def test_the_body_of_a_pipeline_hook_tells_the_status_of_when_it_is_sent() -> None:
    world = World()
    world.hook("pipeline_events")
    world.gitlab.push("images/base", {"a": "1"})
    world.gitlab.pipelines.finish(world.gitlab.latest_pipeline("images/base"))
    world.deliver()
    statuses = [body["object_attributes"]["status"] for body in world.receiver.bodies]
    assert statuses == ["success"] * 3  # It was pending and running, too.


def test_the_body_of_a_job_hook_tells_the_status_of_when_it_happened() -> None:
    world = World()
    world.hook("job_events")
    world.gitlab.push("images/base", {"a": "1"})
    world.gitlab.pipelines.finish(world.gitlab.latest_pipeline("images/base"), "failed")
    world.deliver()
    assert [body["build_status"] for body in world.receiver.bodies] == ["pending", "running", "failed"]


def test_a_redirect_counts_as_success() -> None:
    world = World()
    hook = world.gitlab.state.hooks[world.hook("push_events")]
    hook.recent_failures = 2
    world.receiver.status = 302
    world.gitlab.push("images/base", {"a": "1"})
    world.deliver()
    assert hook.recent_failures == 0


def fail(world: World, times: int) -> None:
    """Let the hook fail so many times in a row, and wait for each back-off."""
    world.receiver.status = 500
    for _ in range(times):
        world.gitlab.push("images/base", {"a": str(world.clock.now)})
        world.deliver()
        world.clock.now += 86_401


def test_the_fourth_failure_in_a_row_disables_a_hook_for_a_minute_and_each_more_for_twice_as_long() -> None:
    world = World()
    hook = world.gitlab.state.hooks[world.hook("push_events")]
    waits = []
    for _ in range(16):
        world.receiver.status = 500
        world.gitlab.push("images/base", {"a": str(world.clock.now)})
        world.deliver()
        waits.append(0 if hook.disabled_until is None else hook.disabled_until - world.clock.now)
        world.clock.now += waits[-1] + 1
    assert waits[:7] == [0, 0, 0, 60, 120, 240, 480]
    assert waits[-1] == 86_400


def test_events_of_a_disabled_hook_are_lost_and_the_api_tells_of_it() -> None:
    world = World()
    hook = world.hook("push_events")
    fail(world, 4)
    world.clock.now -= 86_401  # Back into the back-off.
    world.receiver.status = 200
    world.gitlab.push("images/base", {"b": "1"})
    assert world.gitlab.hooks.waiting == 0
    shown = world.ask("GET", f"projects/images%2Fbase/hooks/{hook}").json()
    assert (shown["alert_status"], shown["disabled_until"] is not None) == ("temporarily_disabled", True)
    assert ("push_hooks", "disabled") in world.gitlab.hooks.lost


def test_the_fortieth_failure_disables_a_hook_for_good_and_a_test_call_enables_it_again() -> None:
    world = World()
    hook = world.hook("push_events")
    fail(world, 40)
    path = f"projects/images%2Fbase/hooks/{hook}"
    assert world.ask("GET", path).json()["alert_status"] == "disabled"
    assert world.ask("POST", f"{path}/test/push_events").status_code == 422
    world.receiver.status = 200
    answer = world.ask("POST", f"{path}/test/push_events")
    assert (answer.status_code, answer.json()) == (201, {"message": "201 Created"})
    shown = world.ask("GET", path).json()
    assert (shown["alert_status"], shown["disabled_until"]) == ("executable", None)


def test_any_success_forgets_all_failures() -> None:
    world = World()
    hook = world.gitlab.state.hooks[world.hook("push_events")]
    fail(world, 5)
    world.receiver.status = 204
    world.gitlab.push("images/base", {"b": "1"})
    world.deliver()
    assert (hook.recent_failures, hook.disabled_until) == (0, None)


def test_hooks_are_never_disabled_where_the_instance_does_not_want_it() -> None:
    world = World(auto_disabling_web_hooks=False)
    world.hook("push_events")
    fail(world, 50)
    assert len(world.receiver.calls) == 50


def test_system_hooks_are_never_disabled_and_have_a_header_of_their_own() -> None:
    world = World()
    world.gitlab.add_hook(None, "http://receiver.example.com/")
    fail(world, 50)
    assert len(world.receiver.calls) == 50
    assert {headers["x-gitlab-event"] for headers, _ in world.receiver.calls} == {"System Hook"}


def test_hook_tests_are_limited_to_five_a_minute() -> None:
    world = World()
    path = f"projects/images%2Fbase/hooks/{world.hook('push_events')}/test/push_events"
    answers = [world.ask("POST", path) for _ in range(6)]
    assert [answer.status_code for answer in answers] == [201] * 5 + [429]
    assert "retry-after" in answers[-1].headers


def test_a_signature_can_be_verified_as_the_standard_says() -> None:
    world = World()
    signing_token = world.gitlab.new_signing_token()
    world.hook("push_events", signing_token=signing_token, token="plain")
    world.gitlab.push("images/base", {"a": "ü"})
    world.deliver()
    headers, body = world.receiver.calls[0]
    key = b64decode(signing_token.removeprefix("whsec_"))
    message = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    assert len(key) == 32
    version, _, signature = headers["webhook-signature"].partition(",")
    assert version == "v1"
    assert b64decode(signature) == hmac.digest(key, message, hashlib.sha256)
    assert int(headers["webhook-timestamp"]) == int(world.clock.now)
    assert headers["webhook-id"] == headers["idempotency-key"]
    assert headers["x-gitlab-token"] == "plain"


def test_gitlab_18_neither_signs_nor_tells_which_secrets_are_there() -> None:
    world = World(version="18.11.3")
    data = {"url": "http://r.example.com/", "signing_token": "nonsense", "token": "t"}
    shown = world.ask("POST", "projects/images%2Fbase/hooks", json=data).json()
    assert not {"token_present", "signing_token_present", "token"} & shown.keys()
    world.gitlab.push("images/base", {"a": "1"})
    world.deliver()
    headers, _ = world.receiver.calls[0]
    assert not [name for name in headers if name.startswith("webhook-")]
    assert headers["x-gitlab-token"] == "t"
    assert "idempotency-key" in headers


def test_each_attempt_has_its_own_uuid_and_a_resend_keeps_the_idempotency_key() -> None:
    world = World()
    hook = world.hook("push_events")
    world.gitlab.push("images/base", {"a": "1"})
    world.deliver()
    path = f"projects/images%2Fbase/hooks/{hook}/events"
    event = world.ask("GET", path).json()[0]
    assert world.ask("POST", f"{path}/{event['id']}/resend").status_code == 201
    (first, body), (second, again) = world.receiver.calls
    assert first["idempotency-key"] == second["idempotency-key"]
    assert first["x-gitlab-webhook-uuid"] != second["x-gitlab-webhook-uuid"]
    assert body == again


def test_the_log_of_a_hook_hides_secrets_and_can_be_filtered() -> None:
    world = World()
    hook = world.hook("push_events", token="secret", signing_token=world.gitlab.new_signing_token())
    for status in (200, 404, 500):
        world.receiver.status = status
        world.gitlab.push("images/base", {"a": str(status)})
        world.deliver()
    path = f"projects/images%2Fbase/hooks/{hook}/events"
    assert "secret" not in world.ask("GET", path).text
    for wanted, statuses in [("successful", ["200"]), ("server_failure", ["500"]), ("404", ["404"])]:
        shown = world.ask("GET", path, params={"status": wanted}).json()
        assert [event["response_status"] for event in shown] == statuses


def test_a_request_that_forwards_an_event_uuid_makes_hooks_be_lost() -> None:
    world = World()
    world.hook("pipeline_events")
    world.gitlab.push("images/base", {"a": "1"})
    world.deliver()
    headers, _ = world.receiver.calls[-1]
    forwarded = {"X-Gitlab-Event-UUID": headers["x-gitlab-event-uuid"]}
    world.ask("POST", "projects/images%2Fbase/pipeline", json={"ref": "main"}, headers=forwarded)
    assert world.deliver() == 0
    assert ("pipeline_hooks", "recursion") in world.gitlab.hooks.lost
    world.ask("POST", "projects/images%2Fbase/pipeline", json={"ref": "main"})
    assert world.deliver() == 1


def test_a_trigger_call_from_a_pipeline_hook_is_forbidden() -> None:
    world = World()
    made = world.ask("POST", "projects/images%2Fbase/triggers", json={"description": "t"}).json()
    call: dict[str, Any] = {"json": {"token": made["token"], "ref": "main"}, "token": None}
    path = "projects/images%2Fbase/trigger/pipeline"
    assert world.ask("POST", path, headers={"X-Gitlab-Event": "Pipeline Hook"}, **call).status_code == 403
    assert world.ask("POST", path, **call).status_code == 201


@pytest.mark.parametrize(("count", "calls"), [(3, 3), (4, 0)])
def test_a_push_of_more_than_three_branches_fires_no_hook_at_all(count: int, calls: int) -> None:
    world = World()
    world.hook("push_events")
    head = world.base.head
    assert head is not None
    changes = [RefChange(ref=f"refs/heads/b{n}", before=NO_COMMIT, after=head.sha) for n in range(count)]
    world.gitlab.repositories.push_refs(world.base, changes, user=world.bot)
    assert world.deliver() == calls


def test_a_push_shows_its_newest_twenty_commits_and_how_many_there_were() -> None:
    world = World()
    world.hook("push_events")
    commit = world.base.head
    assert commit is not None
    before, commits = commit.sha, []
    for number in range(25):
        commit = world.gitlab.repositories.commit(world.base, commit, commit.files, f"c{number}", world.bot)
        commits.append(commit)
    change = RefChange(ref="refs/heads/main", before=before, after=commit.sha, commits=tuple(commits))
    world.gitlab.repositories.push_refs(world.base, [change], user=world.bot)
    world.deliver()
    body = world.receiver.bodies[0]
    assert body["total_commits_count"] == 25
    assert [shown["title"] for shown in body["commits"]] == [f"c{number}" for number in range(5, 25)]


def test_hook_calls_above_the_rate_of_the_top_group_are_dropped() -> None:
    world = World(hook_calls_per_minute_max=2)
    world.hook("push_events")
    for number in range(4):
        world.gitlab.push("images/base", {"a": str(number)})
    assert world.deliver() == 2
    assert list(world.gitlab.hooks.lost) == [("push_hooks", "rate limit")] * 2
    world.clock.now += 61
    world.gitlab.push("images/base", {"a": "later"})
    assert world.deliver() == 1


def test_a_group_hook_covers_subgroups_and_fires_beside_the_project_hook() -> None:
    world = World()
    project = world.gitlab.add_project("images/deep/er/app", files={"a": "1"})
    group = world.gitlab.state.find_group("images")
    world.gitlab.add_hook(group, "http://receiver.example.com/", events=("push_events",))
    world.hook("push_events", project=project)
    world.gitlab.push("images/deep/er/app", {"a": "2"})
    world.deliver()
    keys = {headers["idempotency-key"] for headers, _ in world.receiver.calls}
    assert len(keys) == 2


def test_a_group_hook_tells_of_new_projects() -> None:
    world = World()
    group = world.gitlab.state.find_group("images")
    world.gitlab.add_hook(group, "http://receiver.example.com/")
    world.gitlab.add_project("images/new", files={"a": "1"})
    world.deliver()
    assert [body["event_name"] for body in world.receiver.bodies] == ["project_create"]


def test_the_free_edition_has_no_group_hooks() -> None:
    world = World(enterprise=False)
    data = {"url": "http://r.example.com/"}
    assert world.ask("POST", "groups/images/hooks", json=data).status_code == 404


def test_another_url_forgets_the_token_and_the_headers() -> None:
    world = World()
    data = {"url": "http://a.example.com/", "token": "t", "custom_headers": [{"key": "X-A", "value": "1"}]}
    made = world.ask("POST", "projects/images%2Fbase/hooks", json=data).json()
    path = f"projects/images%2Fbase/hooks/{made['id']}"
    same = world.ask("PUT", path, json={"url": "http://a.example.com/", "pipeline_events": True}).json()
    assert (same["token_present"], same["custom_headers"]) == (True, [{"key": "X-A"}])
    assert (same["push_events"], same["pipeline_events"]) == (True, True)
    moved = world.ask("PUT", path, json={"url": "http://b.example.com/"}).json()
    assert (moved["token_present"], moved["custom_headers"]) == (False, [])


def test_a_project_has_at_most_a_hundred_hooks() -> None:
    world = World()
    for _ in range(100):
        world.hook("push_events")
    data = {"url": "http://a.example.com/"}
    assert world.ask("POST", "projects/images%2Fbase/hooks", json=data).status_code == 422


@pytest.mark.parametrize(
    "data", [{}, {"url": "ftp://a"}, {"url": "nonsense"}, {"url": "http://a/", "signing_token": "whsec_x"}]
)
def test_wrong_hook_settings_are_refused(data: dict[str, str]) -> None:
    answer = World().ask("POST", "projects/images%2Fbase/hooks", json=data)
    assert answer.status_code == (400 if not data else 422)


@pytest.mark.parametrize(
    ("pattern", "strategy", "sent"),
    [("main", "wildcard", 1), ("rel*", "wildcard", 0), ("^ma", "regex", 1), ("x", "all_branches", 1)],
)
def test_a_branch_filter_lets_pushes_through(pattern: str, strategy: str, sent: int) -> None:
    world = World()
    hook = world.gitlab.state.hooks[world.hook("push_events")]
    hook.push_events_branch_filter, hook.branch_filter_strategy = pattern, strategy
    world.gitlab.push("images/base", {"a": "1"})
    assert world.deliver() == sent


def test_nothing_is_sent_in_silent_mode() -> None:
    world = World(silent_mode=True)
    world.hook()
    world.gitlab.push("images/base", {"a": "1"})
    assert world.deliver() == 0


def test_faults_drop_double_and_delay_hooks_and_a_double_keeps_its_key() -> None:
    world = World()
    world.hook("push_events")
    faults = world.gitlab.state.faults
    faults.hook_drop = 1.0
    world.gitlab.push("images/base", {"a": "1"})
    faults.hook_drop, faults.hook_duplicate = 0.0, 1.0
    world.gitlab.push("images/base", {"a": "2"})
    assert world.deliver() == 2
    assert len({headers["idempotency-key"] for headers, _ in world.receiver.calls}) == 1
    faults.hook_duplicate, faults.hook_delay = 0.0, 1.0
    world.gitlab.push("images/base", {"a": "3"})
    assert world.deliver() == 0
    due = world.gitlab.hooks.next_due()
    assert due is not None
    assert world.clock.now < due <= world.clock.now + 60
    world.clock.now = due
    assert world.deliver() == 1


def test_faults_let_hooks_overtake_each_other() -> None:
    world = World()
    world.hook("push_events")
    world.gitlab.state.faults.hook_reorder = 1.0
    shas = [world.gitlab.push("images/base", {"a": str(number)}).sha for number in range(2)]
    world.deliver()
    assert [body["after"] for body in world.receiver.bodies] == shas[::-1]


def hook_story(seed: int) -> list[tuple[dict[str, str], bytes]]:
    world = World(seed)
    world.hook(signing_token=world.gitlab.new_signing_token())
    faults = world.gitlab.state.faults
    faults.hook_drop = faults.hook_duplicate = faults.hook_reorder = faults.hook_delay = 0.3
    for number in range(20):
        world.gitlab.push("images/base", {"a": str(number)})
        world.gitlab.pipelines.finish(world.gitlab.latest_pipeline("images/base"))
        world.clock.now += 10
        world.deliver()
    return world.receiver.calls


def test_a_seed_repeats_a_run_to_the_byte_and_another_differs() -> None:
    assert hook_story(7) == hook_story(7)
    assert hook_story(7) != hook_story(8)


def test_merge_requests_notes_and_deployments_have_hooks() -> None:
    world = World()
    world.hook()
    gitlab, project = world.gitlab, world.base
    gitlab.push("images/base", {"a": "1"}, branch="topic")
    merge_request = gitlab.collaboration.open_merge_request(project, author=world.bot, source="topic")
    note = gitlab.collaboration.add_note(project, merge_request, author=world.bot, body="hello")
    gitlab.collaboration.edit_note(project, merge_request, note, "hello")  # No change, no hook.
    gitlab.collaboration.edit_note(project, merge_request, note, "changed")
    head = project.head
    assert head is not None
    gitlab.collaboration.deploy(
        project, environment="production", ref="main", sha=head.sha, status="success", user=world.bot
    )
    gitlab.collaboration.merge(project, merge_request, user=world.bot)
    world.deliver()
    wanted = {"Merge Request Hook": 2, "Note Hook": 2, "Deployment Hook": 1, "Push Hook": 2}
    sent = [headers["x-gitlab-event"] for headers, _ in world.receiver.calls]
    assert {name: sent.count(name) for name in wanted} == wanted


def test_the_receiver_sees_no_hook_of_a_deleted_project() -> None:
    world = World()
    world.hook("push_events")
    world.gitlab.push("images/base", {"a": "1"})
    world.gitlab.delete_project("images/base")
    assert world.deliver() == 0


def test_header_values_are_those_of_gitlab(shared_gitlab: Path) -> None:
    values = json.loads((shared_gitlab / "webhooks/docs/event_header_values.json").read_text())
    del values["(system hook)"]
    assert {trigger: event_header(trigger) for trigger in values} == values


def test_only_maintainers_may_see_hooks() -> None:
    world = World()
    for role, status in [(Role.DEVELOPER, 403), (Role.MAINTAINER, 200)]:
        assert (
            world.ask("GET", "projects/images%2Fbase/hooks", token=world.member(role)).status_code == status
        )


def test_the_url_of_the_instance_is_told() -> None:
    world = World()
    world.hook("push_events")
    world.gitlab.push("images/base", {"a": "1"})
    world.deliver()
    headers, _ = world.receiver.calls[0]
    assert (headers["x-gitlab-instance"], headers["user-agent"]) == (URL, "GitLab/19.0.0")


@pytest.mark.parametrize("error", [httpx2.ReadTimeout, httpx2.ConnectError])
def test_a_receiver_that_is_silent_or_gone_counts_as_a_failure(error: type[httpx2.TransportError]) -> None:
    world = World()
    hook = world.gitlab.state.hooks[world.hook("push_events")]

    def answer(request: httpx2.Request) -> httpx2.Response:
        assert request.extensions["timeout"]["read"] == 10.0
        raise error("no answer", request=request)

    world.gitlab.hooks.transport = httpx2.MockTransport(answer)
    world.gitlab.push("images/base", {"a": "1"})
    world.deliver()
    assert hook.recent_failures == 1
    assert [event.response_status for event in hook.log] == ["internal error"]


def test_a_body_that_is_too_large_is_never_sent() -> None:
    world = World(hook_body_bytes_max=100)
    hook = world.gitlab.state.hooks[world.hook("push_events")]
    world.gitlab.push("images/base", {"a": "1"})
    world.deliver()
    assert (world.receiver.calls, hook.recent_failures) == ([], 1)
