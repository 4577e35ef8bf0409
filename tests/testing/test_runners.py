"""How jobs are run: by a callback in this process, and by runners that take them over HTTP."""

import asyncio
import json
import zlib
from pathlib import Path
from typing import Any

import httpx2
import pytest

from imagechain.testing import JobRun, SimulationError
from imagechain.testing.server import serving_here
from imagechain.testing.values import Status
from testing.gitlab_world import CI, World, run

LONG = "a: {stage: build, script: a}\nb: {stage: test, script: b}\nc: {stage: test, script: c}\n"


def test_a_callback_decides_what_becomes_of_each_job() -> None:
    world = World()
    seen: list[tuple[str, tuple[str, ...]]] = []

    def decide(job_run: JobRun) -> Status:
        seen.append((job_run.job.plan.name, job_run.job.plan.script))
        return "failed" if job_run.job.plan.name == "b" else "success"

    world.gitlab.on_job(decide)
    world.gitlab.push("images/base", {".gitlab-ci.yml": LONG})
    assert run(world.gitlab.run_jobs()) == 3
    assert seen == [("a", ("a",)), ("b", ("b",)), ("c", ("c",))]
    assert world.gitlab.latest_pipeline("images/base").status == "failed"


def test_a_callback_that_waits_runs_beside_others_up_to_the_limit() -> None:
    world = World()
    running = most = 0

    async def decide(_: JobRun) -> Status:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        return "success"

    world.gitlab.on_job(decide)
    for number in range(6):
        world.gitlab.add_project(f"images/p{number}", files={"a": "1"})
        world.gitlab.push(f"images/p{number}", {".gitlab-ci.yml": CI})
    assert run(world.gitlab.run_jobs(parallel_max=3)) == 6
    assert most == 3


def test_a_job_that_is_cancelled_while_it_runs_stays_cancelled() -> None:
    world = World()

    async def decide(job_run: JobRun) -> Status:
        world.gitlab.pipelines.cancel(job_run.pipeline)
        return "success"

    world.gitlab.on_job(decide)
    world.gitlab.push("images/base", {"a": "1"})
    run(world.gitlab.run_jobs())
    assert world.gitlab.latest_pipeline("images/base").status == "canceled"


def test_an_error_of_the_callback_is_raised_and_none_leaves_a_job_running() -> None:
    world = World()
    world.gitlab.push("images/base", {"a": "1"})
    with pytest.raises(SimulationError, match="on_job"):
        run(world.gitlab.run_jobs())
    world.gitlab.on_job(lambda _: None)
    run(world.gitlab.run_jobs())
    assert world.gitlab.latest_pipeline("images/base").status == "running"
    world.gitlab.on_job(lambda _: 1 / 0)  # type: ignore[arg-type, return-value]
    world.gitlab.push("images/base", {"a": "2"})
    with pytest.raises(ZeroDivisionError):
        run(world.gitlab.run_jobs())


def test_a_world_that_lives_delivers_hooks_runs_jobs_and_starts_schedules_over_sockets() -> None:
    world = World()
    gitlab = world.gitlab
    gitlab.on_job(lambda _: "success")
    gitlab.schedules.create(world.base, owner=world.bot, ref="main", cron="0 4 * * *")
    world.hook("pipeline_events")
    world.clock.now += 86_400

    async def story() -> str:
        async with serving_here(gitlab) as url, httpx2.AsyncClient(base_url=url, trust_env=False) as client:
            living = asyncio.create_task(gitlab.live(poll_seconds=0.01))
            await world.receiver.until(lambda body: body["object_attributes"]["status"] == "success")
            headers = {"PRIVATE-TOKEN": world.token}
            answer = await client.get("/api/v4/projects/1/pipelines/latest", headers=headers)
            living.cancel()
            return str(answer.json()["status"])

    assert asyncio.run(asyncio.wait_for(story(), 10)) == "success"
    assert gitlab.latest_pipeline("images/base").source == "schedule"


# --- the coordinator


class Runner:
    """A runner that speaks as gitlab-runner does."""

    def __init__(self, world: World, **options: Any) -> None:
        self.world = world
        made = world.ask("POST", "user/runners", json={"runner_type": "instance_type", **options})
        assert made.status_code == 201
        self.token = made.json()["token"]

    def request(self) -> httpx2.Response:
        data = {"token": self.token, "info": {"executor": "shell"}}
        return self.world.ask("POST", "jobs/request", token=None, json=data)

    def trace(self, job: Any, text: bytes, start: int) -> httpx2.Response:
        headers = {
            "JOB-TOKEN": job["token"],
            "Content-Type": "text/plain",
            "Content-Range": f"{start}-{start + len(text) - 1}",
        }
        path = f"jobs/{job['id']}/trace"
        return self.world.ask("PATCH", path, token=None, headers=headers, content=text)

    def upload(self, job: Any, content: bytes) -> httpx2.Response:
        path = f"jobs/{job['id']}/artifacts?artifact_type=archive&artifact_format=zip"
        files = {"file": ("artifacts.zip", content, "application/octet-stream")}
        return self.world.ask("POST", path, token=None, headers={"JOB-TOKEN": job["token"]}, files=files)

    def download(self, job: Any, token: str | None) -> httpx2.Response:
        headers = {} if token is None else {"JOB-TOKEN": token}
        return self.world.ask("GET", f"jobs/{job['id']}/artifacts", token=None, headers=headers)

    def update(self, job: Any, state: str, **data: Any) -> httpx2.Response:
        body = {"token": job["token"], "state": state, **data}
        return self.world.ask("PUT", f"jobs/{job['id']}", token=None, json=body)


def test_a_runner_takes_a_job_writes_its_trace_and_ends_it() -> None:
    world = World()
    runner = Runner(world)
    waiting = runner.request()
    assert (waiting.status_code, "x-gitlab-last-update" in waiting.headers) == (204, True)
    world.gitlab.push("images/base", {"a": "1"})
    pipeline = world.gitlab.latest_pipeline("images/base")
    job = runner.request().json()
    assert (job["steps"][0]["script"], pipeline.jobs[0].status) == (["make"], "running")
    assert runner.trace(job, b"hello ", 0).status_code == 202
    answer = runner.trace(job, b"world", 6)
    assert (answer.headers["range"], answer.headers["job-status"]) == ("0-11", "running")
    assert runner.update(job, "running").status_code == 200
    checksum = f"crc32:{zlib.crc32(b'hello world'):08x}"
    assert runner.update(job, "success", output={"checksum": checksum, "bytesize": 11}).status_code == 200
    assert pipeline.status == "success"
    path = f"projects/images%2Fbase/jobs/{job['id']}/trace"
    assert world.ask("GET", path).text == "hello world"


STAGES = """
make: {stage: build, script: a, artifacts: {paths: [out/*], expire_in: 1 week, reports: {junit: j.xml}}}
plain: {stage: build, script: a}
use: {stage: test, script: b}
alone: {stage: test, script: b, dependencies: []}
"""


def test_artifacts_go_from_the_job_that_made_them_to_those_that_need_them() -> None:
    world = World()
    runner = Runner(world)
    world.gitlab.push("images/base", {".gitlab-ci.yml": STAGES})
    made, plain = runner.request().json(), runner.request().json()
    assert [(one["artifact_type"], one["paths"], one["expire_in"]) for one in made["artifacts"]] == [
        ("archive", ["out/*"], "1 week"),
        ("junit", ["j.xml"], "1 week"),
    ]
    assert plain["artifacts"] is None
    content = b"PK\x03\x04\r\n--not the end\r\n\x00\xff\n"
    assert runner.upload(made, content).status_code == 201
    for job in (made, plain):
        runner.update(job, "success")
    later = {job["job_info"]["name"]: job for job in (runner.request().json(), runner.request().json())}
    (needed,) = later["use"]["dependencies"]
    assert (needed["id"], needed["name"]) == (made["id"], "make")
    assert needed["artifacts_file"] == {"filename": "artifacts.zip", "size": len(content)}
    assert later["alone"]["dependencies"] == []
    assert runner.download(made, needed["token"]).content == content
    assert runner.download(made, later["use"]["token"]).content == content
    by_people = world.ask("GET", f"projects/images%2Fbase/jobs/{made['id']}/artifacts")
    assert (by_people.content, by_people.headers["content-type"]) == (content, "application/zip")


def test_artifacts_are_refused_as_gitlab_does() -> None:
    world = World()
    runner = Runner(world)
    world.gitlab.push("images/base", {".gitlab-ci.yml": STAGES})
    made, plain = runner.request().json(), runner.request().json()
    assert runner.download(made, made["token"]).status_code == 404
    assert runner.download(made, None).status_code == 401
    assert runner.download(made, plain["token"]).status_code == 403
    assert runner.upload({**made, "token": plain["token"]}, b"x").status_code == 403
    headers = {"JOB-TOKEN": made["token"]}
    path = f"jobs/{made['id']}/artifacts"
    assert world.ask("POST", path, token=None, headers=headers, content=b"no form").status_code == 400
    runner.update(made, "failed")
    late = runner.upload(made, b"x")
    assert (late.status_code, late.headers["job-status"]) == (403, "failed")


def test_a_trace_with_a_gap_is_refused_with_the_place_to_go_on_from() -> None:
    world = World()
    runner = Runner(world)
    world.gitlab.push("images/base", {"a": "1"})
    job = runner.request().json()
    runner.trace(job, b"abc", 0)
    for start in (0, 5):
        answer = runner.trace(job, b"def", start)
        assert (answer.status_code, answer.headers["range"]) == (416, "0-3")


def test_a_trace_that_does_not_match_its_checksum_is_asked_for_again() -> None:
    world = World()
    runner = Runner(world)
    world.gitlab.push("images/base", {"a": "1"})
    job = runner.request().json()
    assert runner.update(job, "success", output={"checksum": "crc32:00000001"}).status_code == 412
    assert runner.update(job, "failed", failure_reason="script_failure").status_code == 200
    assert world.gitlab.latest_pipeline("images/base").status == "failed"


def test_a_cancelled_job_is_told_to_its_runner() -> None:
    world = World()
    runner = Runner(world)
    world.gitlab.push("images/base", {"a": "1"})
    job = runner.request().json()
    world.gitlab.pipelines.cancel(world.gitlab.latest_pipeline("images/base"))
    for answer in (runner.trace(job, b"x", 0), runner.update(job, "running")):
        assert (answer.status_code, answer.headers["job-status"]) == (403, "canceled")


def test_jobs_go_only_to_runners_with_their_tags_and_to_one_runner() -> None:
    world = World()
    first, tagged = Runner(world), Runner(world, tag_list=["arm", "x"], run_untagged=False)
    world.gitlab.push("images/base", {".gitlab-ci.yml": "a: {script: a, tags: [arm]}\nb: {script: b}"})
    jobs = [tagged.request(), tagged.request(), first.request(), first.request()]
    assert [answer.status_code for answer in jobs] == [201, 204, 201, 204]
    assert [jobs[0].json()["job_info"]["name"], jobs[2].json()["job_info"]["name"]] == ["a", "b"]


def test_wrong_tokens_are_refused() -> None:
    world = World()
    runner = Runner(world)
    world.gitlab.push("images/base", {"a": "1"})
    job = runner.request().json()
    assert runner.update({**job, "token": "x"}, "success").status_code == 403
    assert world.ask("POST", "runners/verify", token=None, json={"token": "x"}).status_code == 403
    assert world.ask("POST", "runners/verify", token=None, json={"token": runner.token}).status_code == 200
    gone = world.ask("DELETE", "runners", token=None, json={"token": runner.token})
    assert (gone.status_code, runner.request().status_code) == (204, 403)


def test_a_job_has_all_that_the_sample_of_gitlab_runner_has(shared_gitlab: Path) -> None:
    world = World()
    runner = Runner(world)
    ci = "a: {script: a, after_script: [b], image: {name: debian}, services: [redis]}"
    world.gitlab.push("images/base", {".gitlab-ci.yml": ci})
    job = runner.request().json()
    assert [step["name"] for step in job["steps"]] == ["script", "after_script"]
    assert (job["image"]["name"], job["services"]) == ("debian", [{"name": "redis"}])
    sample = (shared_gitlab / "runner/job_request_response.sample.json").read_text()
    assert {key for key in _keys(sample) if key not in job} == set()
    variables = {variable["key"] for variable in job["variables"]}
    needed = (
        "CI_SERVER_URL CI_PROJECT_URL CI_PROJECT_PATH CI_PROJECT_ID CI_JOB_ID CI_JOB_TOKEN CI_COMMIT_SHA "
        "CI_COMMIT_REF_NAME CI_PIPELINE_ID CI_REPOSITORY_URL GIT_STRATEGY"
    )
    assert set(needed.split()) <= variables


def _keys(sample: str) -> set[str]:
    return set(json.loads(sample))
