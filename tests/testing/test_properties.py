"""Properties of the simulated GitLab under any order of events."""

from hypothesis import given, settings
from hypothesis import strategies as st

from imagechain.testing import SimulationError
from imagechain.testing.values import FINISHED
from testing.gitlab_world import World

BASE = "projects/images%2Fbase"
CI = """
a: {stage: build, script: a}
b: {stage: build, script: b, allow_failure: true}
c: {stage: test, script: c, when: manual}
d: {stage: test, script: d}
e: {stage: deploy, script: e, when: on_failure}
f: {stage: deploy, script: f, when: always}
"""
STEPS = st.lists(
    st.tuples(st.sampled_from(["start", "success", "failed", "cancel", "retry", "play"]), st.integers(0, 9)),
    max_size=30,
)


def step(world: World, action: str, number: int) -> None:
    pipeline = world.gitlab.latest_pipeline("images/base")
    job = pipeline.latest_jobs[number % len(pipeline.latest_jobs)]
    pipelines = world.gitlab.pipelines
    match action:
        case "start":
            pipelines.start_job(job)
        case "success":
            pipelines.finish_job(job, "success")
        case "failed":
            pipelines.finish_job(job, "failed")
        case "cancel":
            pipelines.cancel(pipeline)
        case "retry":
            pipelines.retry(pipeline)
        case "play":
            pipelines.play(job)


@given(STEPS)
def test_a_pipeline_has_ended_exactly_when_no_job_of_it_can_go_on(steps: list[tuple[str, int]]) -> None:
    world = World()
    world.gitlab.push("images/base", {".gitlab-ci.yml": CI})
    pipeline = world.gitlab.latest_pipeline("images/base")
    for action, number in steps:
        world.clock.now += 1
        try:
            step(world, action, number)
        except SimulationError:
            continue
        finally:
            jobs = pipeline.latest_jobs
            assert len({job.plan.name for job in jobs}) == len(jobs) == 6
            open_jobs = [job for job in jobs if job.status not in FINISHED]
            waiting = [job for job in open_jobs if not (job.status == "manual" and job.plan.allow_failure)]
            assert (pipeline.status in FINISHED) == (not waiting)
            assert (pipeline.finished_at is not None) == (pipeline.status in FINISHED)
            assert set(world.gitlab.pipelines.pending) == {job.id for job in jobs if job.status == "pending"}
            if pipeline.status == "success":
                assert all(job.status != "failed" or job.plan.allow_failure for job in jobs)


@given(st.integers(0, 50), st.integers(1, 30), st.integers(0, 60))
@settings(max_examples=30)
def test_pages_of_any_size_hold_every_row_once(rows: int, per_page: int, totals_max: int) -> None:
    world = World(totals_rows_max=totals_max)
    for number in range(rows):
        world.gitlab.add_project(f"images/p{number}")
    found: list[int] = []
    page = "1"
    while page:
        params = {"per_page": per_page, "page": page, "order_by": "id", "sort": "asc"}
        answer = world.ask("GET", "groups/images/projects", params=params)
        found += [project["id"] for project in answer.json()]
        page = answer.headers["x-next-page"]
        assert ("x-total" in answer.headers) == (rows + 1 <= totals_max)
    assert found == list(range(1, rows + 2))


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 200_000)), max_size=60))
@settings(max_examples=50)
def test_a_hook_is_disabled_as_the_contract_counts(calls: list[tuple[bool, float]]) -> None:
    """The oracle counts failures in a row, and asks nothing of the program."""
    world = World()
    hook = world.gitlab.state.hooks[world.hook("push_events")]
    failures, until = 0, 0.0
    for ok, wait in calls:
        world.clock.now += wait
        sleeping = failures >= 40 or (failures > 3 and until >= world.clock.now)
        world.receiver.status = 200 if ok else 500
        world.gitlab.push("images/base", {"a": str(world.clock.now)})
        assert world.deliver() == (0 if sleeping else 1)
        if sleeping:
            continue
        failures = 0 if ok else failures + 1
        if failures > 3:
            until = world.clock.now + min(60 * 2 ** (failures - 4), 86_400)
    wanted = "disabled" if failures >= 40 else "temporarily_disabled"
    sleeping = failures >= 40 or (failures > 3 and until >= world.clock.now)
    assert world.gitlab.hooks.alert_status(hook) == (wanted if sleeping else "executable")
