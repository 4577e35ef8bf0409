"""Section 7 of the contract, point 7: which pipelines are made, refused, shown, retried and cancelled."""

from typing import Any

import httpx2
import pytest

from imagechain.testing import Role
from testing.gitlab_world import CI, World

BASE = "projects/images%2Fbase"


def create(world: World, **data: Any) -> httpx2.Response:
    return world.ask("POST", f"{BASE}/pipeline", json={"ref": "main", **data})


def refusal(answer: httpx2.Response) -> str:
    assert answer.status_code == 400
    [message] = answer.json()["message"]["base"]
    return str(message)


def test_a_pipeline_is_made_with_source_api_and_without_a_name() -> None:
    world = World()
    made = create(world, variables=[{"key": "A", "value": "1"}])
    shown = made.json()
    assert made.status_code == 201
    assert (shown["source"], shown["status"], "name" in shown) == ("api", "pending", False)
    given = world.ask("GET", f"{BASE}/pipelines/{shown['id']}/variables").json()
    assert given == [{"key": "A", "value": "1", "variable_type": "env_var"}]


@pytest.mark.parametrize(
    ("ci", "data", "message"),
    [
        (CI, {"ref": "gone"}, "Reference not found"),
        (None, {}, "Missing CI config file"),
        ("build: {stage: x, script: a}", {}, "chosen stage x does not exist"),
        ("build: [", {}, "not YAML"),
        ("build: {script: a, rules: [{when: never}]}", {}, "Pipeline will not run for the selected trigger"),
        ("build: {script: a, only: [tags]}", {}, "Pipeline will not run for the selected trigger"),
        (CI, {"inputs": {"x": "1"}}, "unknown input arguments: x"),
    ],
)
def test_a_refused_pipeline_says_why_as_a_base_error(
    ci: str | None, data: dict[str, Any], message: str
) -> None:
    world = World()
    world.gitlab.push("images/base", {".gitlab-ci.yml": ci})
    before = len(world.base.pipelines)
    assert message in refusal(create(world, **data))
    assert len(world.base.pipelines) == before


def test_variables_need_the_role_that_the_project_asks_for() -> None:
    world = World()
    world.gitlab.push("images/base", {"x": "1"}, branch="topic")
    developer = world.member(Role.DEVELOPER)
    world.base.pipeline_variables_role = "maintainer"
    data = {"ref": "topic", "variables": [{"key": "A", "value": "1"}]}
    answer = world.ask("POST", f"{BASE}/pipeline", token=developer, json=data)
    assert refusal(answer) == "Insufficient permissions to set pipeline variables"
    assert world.ask("POST", f"{BASE}/pipeline", token=developer, json={"ref": "topic"}).status_code == 201
    assert create(world, variables=data["variables"]).status_code == 201


def test_where_nobody_may_set_variables_trigger_calls_fail_too_but_plain_ones_and_inputs_work() -> None:
    world = World(pipeline_variables_role="no_one_allowed")
    ci = "spec: {inputs: {cause: {default: none}}}\n---\nbuild: {script: 'echo $[[ inputs.cause ]]'}\n"
    world.gitlab.push("images/base", {".gitlab-ci.yml": ci})
    assert "variables" in refusal(create(world, variables=[{"key": "A", "value": "1"}]))
    made = world.ask("POST", f"{BASE}/triggers", json={"description": "t"}).json()
    call = {"token": made["token"], "ref": "main"}
    assert "variables" in refusal(world.ask("POST", f"{BASE}/trigger/pipeline", json=call))
    assert create(world).status_code == 201
    pipeline = world.base.pipelines[create(world, inputs={"cause": "base moved"}).json()["id"]]
    assert pipeline.jobs[0].plan.script == ("echo base moved",)


def test_a_protected_branch_needs_a_maintainer() -> None:
    world = World()
    token = world.member(Role.DEVELOPER)
    assert "'main'" in refusal(world.ask("POST", f"{BASE}/pipeline", token=token, json={"ref": "main"}))


def test_pipelines_above_the_rate_are_refused_until_a_minute_is_over() -> None:
    world = World(pipelines_per_minute_max=25)
    assert [create(world).status_code for _ in range(26)] == [201] * 25 + [400]
    assert "Try again later" in refusal(create(world))
    world.clock.now += 61
    assert create(world).status_code == 201


def test_no_role_is_forbidden_and_no_project_not_found() -> None:
    world = World()
    world.gitlab.add_project("images/open", visibility="public", files={".gitlab-ci.yml": CI})
    stranger = world.gitlab.add_token(world.gitlab.add_user("stranger")).value
    for path, status in [("images%2Fopen", 403), ("images%2Fbase", 404), ("images%2Fnone", 404)]:
        answer = world.ask("POST", f"projects/{path}/pipeline", token=stranger, json={"ref": "main"})
        assert answer.status_code == status


def test_the_latest_pipeline_is_forbidden_where_there_is_none() -> None:
    world = World()
    assert world.ask("GET", f"{BASE}/pipelines/latest").status_code == 403
    made = create(world).json()
    assert world.ask("GET", f"{BASE}/pipelines/latest").json()["id"] == made["id"]


def test_child_pipelines_are_hidden_unless_asked_for_and_bridges_lead_to_them() -> None:
    world = World()
    world.gitlab.add_project("images/next", files={".gitlab-ci.yml": CI})
    ci = "child: {trigger: {include: sub.yml}}\nnext: {trigger: images/next}\nown: {script: make}\n"
    world.gitlab.push("images/base", {".gitlab-ci.yml": ci, "sub.yml": "inner: {script: a}"})
    [parent] = world.ask("GET", f"{BASE}/pipelines").json()
    [child] = world.ask("GET", f"{BASE}/pipelines", params={"source": "parent_pipeline"}).json()
    bridges = world.ask("GET", f"{BASE}/pipelines/{parent['id']}/bridges").json()
    downstream = {bridge["name"]: bridge["downstream_pipeline"] for bridge in bridges}
    assert downstream["child"]["id"] == child["id"]
    assert (downstream["next"]["source"], downstream["next"]["project_id"]) == ("pipeline", 2)
    jobs = world.ask("GET", f"{BASE}/pipelines/{parent['id']}/jobs").json()
    assert [job["name"] for job in jobs] == ["own"]
    world.hook("pipeline_events")
    world.gitlab.pipelines.finish(world.base.pipelines[child["id"]])
    world.deliver()
    assert world.receiver.bodies[0]["source_pipeline"]["pipeline_id"] == parent["id"]


def test_a_retry_keeps_the_id_and_runs_only_what_failed() -> None:
    world = World()
    ci = "a: {stage: build, script: a}\nb: {stage: test, script: b}\nc: {stage: deploy, script: c}\n"
    world.gitlab.push("images/base", {".gitlab-ci.yml": ci})
    pipeline = world.gitlab.latest_pipeline("images/base")
    world.gitlab.pipelines.start(pipeline)
    world.gitlab.pipelines.finish_job(pipeline.jobs[0], "success")
    world.gitlab.pipelines.finish(pipeline, "failed")
    assert [job.status for job in pipeline.latest_jobs] == ["success", "failed", "skipped"]
    answer = world.ask("POST", f"{BASE}/pipelines/{pipeline.id}/retry")
    assert (answer.status_code, answer.json()["id"]) == (201, pipeline.id)
    assert [job.status for job in pipeline.latest_jobs] == ["success", "pending", "created"]
    world.gitlab.pipelines.finish(pipeline)
    assert (pipeline.status, len(pipeline.jobs), len(world.base.pipelines)) == ("success", 4, 1)


def test_cancel_answers_200_always() -> None:
    world = World()
    made = create(world).json()
    for _ in range(2):
        answer = world.ask("POST", f"{BASE}/pipelines/{made['id']}/cancel")
        assert (answer.status_code, answer.json()["status"]) == (200, "canceled")


def test_pipelines_are_listed_by_status_ref_source_and_time_of_change() -> None:
    world = World()
    ids = []
    for _ in range(4):
        world.clock.now += 10
        ids.append(create(world).json()["id"])
    world.clock.now += 10
    world.gitlab.pipelines.finish(world.base.pipelines[ids[0]])

    def listed(**params: Any) -> list[int]:
        return [item["id"] for item in world.ask("GET", f"{BASE}/pipelines", params=params).json()]

    after = world.ask("GET", f"{BASE}/pipelines/{ids[2]}").json()["updated_at"]
    assert listed() == ids[::-1]
    assert listed(updated_after=after, order_by="updated_at", sort="asc") == [ids[3], ids[0]]
    assert listed(status="success") == listed(scope="finished") == [ids[0]]
    assert listed(source="push") == listed(ref="other") == []
    assert world.ask("GET", f"{BASE}/pipelines", params={"order_by": "x"}).status_code == 400


def test_a_manual_job_blocks_its_pipeline_until_it_is_played() -> None:
    world = World()
    ci = "a: {script: a, rules: [{when: manual}]}\nb: {stage: deploy, script: b}\n"
    world.gitlab.push("images/base", {".gitlab-ci.yml": ci})
    pipeline = world.gitlab.latest_pipeline("images/base")
    path = f"{BASE}/pipelines/{pipeline.id}"
    assert world.ask("GET", path).json()["status"] == "manual"
    assert world.ask("POST", f"{BASE}/jobs/{pipeline.jobs[0].id}/play").status_code == 200
    world.gitlab.pipelines.finish(pipeline)
    assert world.ask("GET", path).json()["status"] == "success"


def test_a_merge_request_has_pipelines_with_its_own_ref() -> None:
    world = World()
    ci = "build: {script: a, rules: [{if: $CI_PIPELINE_SOURCE == 'merge_request_event'}]}"
    world.gitlab.push("images/base", {".gitlab-ci.yml": ci})
    world.gitlab.push("images/base", {"x": "1"}, branch="topic")
    data = {"source_branch": "topic", "target_branch": "main", "title": "t"}
    merge_request = world.ask("POST", f"{BASE}/merge_requests", json=data).json()
    [pipeline] = world.ask("GET", f"{BASE}/merge_requests/{merge_request['iid']}/pipelines").json()
    assert (pipeline["ref"], pipeline["source"]) == ("refs/merge-requests/1/head", "merge_request_event")


def test_a_schedule_runs_when_it_is_due_and_when_it_is_played() -> None:
    world = World()
    data = {"description": "nightly", "ref": "main", "cron": "0 4 * * *", "cron_timezone": "Europe/Berlin"}
    made = world.ask("POST", f"{BASE}/pipeline_schedules", json=data).json()
    assert made["ref"] == "refs/heads/main"
    assert world.gitlab.schedules.run_due() == []
    world.clock.now += 86_400
    [pipeline] = world.gitlab.schedules.run_due()
    assert (pipeline.source, world.gitlab.schedules.run_due()) == ("schedule", [])
    path = f"{BASE}/pipeline_schedules/{made['id']}"
    assert world.ask("POST", f"{path}/play").status_code == 201
    assert len(world.ask("GET", f"{path}/pipelines").json()) == 2
    wrong = world.ask("POST", f"{BASE}/pipeline_schedules", json={**data, "cron": "nonsense"})
    assert wrong.status_code == 400


@pytest.mark.parametrize("call", ["retry", "cancel"])
def test_a_pipeline_without_jobs_stays_as_it_is(call: str) -> None:
    world = World()
    world.gitlab.push("images/base", {".gitlab-ci.yml": "a: {image: x}"})
    answer = world.ask("POST", f"{BASE}/pipelines/1/{call}")
    assert (answer.status_code in {200, 201}, answer.json()["status"]) == (True, "failed")


def test_numbers_of_pipelines_are_never_given_twice() -> None:
    world = World()
    first, second = create(world).json(), create(world).json()
    world.ask("DELETE", f"{BASE}/pipelines/{first['id']}")
    assert create(world).json()["iid"] > second["iid"]
