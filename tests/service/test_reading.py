"""The decided cases about pipelines (design, section 3), each as a test; what images say of themselves."""

from typing import Any

import msgspec
import pytest

from chain.world import chain_of, edge, finish, image, move, project, settle, start, started
from imagechain.chain import (
    BuildFinished,
    Chain,
    Graph,
    ImageFound,
    Source,
    StartBuild,
    WentInactive,
    decide,
    status,
)
from imagechain.service.first_sight import observe_first_builds, observe_first_image
from imagechain.service.ports import ImageAbsent, ImageRead, ImageUnchecked, Pipeline, TrackedProject
from imagechain.service.published import Published, Reading, labelled_inputs, proven_inputs
from imagechain.service.reading import (
    build_of,
    ended_at,
    is_build,
    is_built_by_hand,
    largest_pipeline,
    observe_failure,
    observe_pushed_image,
    observe_start,
    observe_success,
)
from imagechain.store import Intent

A = TrackedProject(source="a", project_id=7, ref="main")


def pipeline(number: int = 5, /, **fields: Any) -> Pipeline:
    values: dict[str, object] = {
        "id": number,
        "project_id": 7,
        "ref": "main",
        "sha": "1" * 40,
        "source": "push",
        "status": "success",
        "created_at": 10.0,
        "updated_at": 20.0,
        "finished_at": 20.0,
    }
    return msgspec.convert(values | fields, Pipeline)


def read(content: str, inputs: dict[str, str] | None = None, *layers: str) -> ImageRead:
    return ImageRead(
        digest=f"sha256:{content}",
        content=content,
        inputs=inputs,
        diff_ids={"linux/amd64": layers} if layers else {},
    )


def published(at: float = 30.0, **readings: Reading) -> Published:
    return Published(at, {image(name): reading for name, reading in readings.items()})


NOTHING = published()


def state_of(chain: Chain, name: str) -> str:
    return next(shown.state for shown in status(chain) if shown.id == name)


# --- which pipelines are builds -------------------------------------------------------------------------


@pytest.mark.parametrize("source", ["push", "schedule", "web", "api", "trigger", "pipeline"])
def test_a_pipeline_of_the_tracked_branch_is_a_build_whoever_started_it(source: str) -> None:
    assert is_build(pipeline(source=source), A)


@pytest.mark.parametrize(
    "fields",
    [
        {"source": "merge_request_event", "ref": "refs/merge-requests/1/head"},
        {"source": "merge_request_event"},
        {"source": "parent_pipeline"},
        {"source": "external_pull_request_event"},
        {"source": "security_orchestration_policy"},
        {"ref": "other"},
        {"is_tag": True},
        {"project_id": 8},
    ],
)
def test_pipelines_of_merge_requests_children_other_branches_and_tags_are_no_builds(
    fields: dict[str, Any],
) -> None:
    assert not is_build(pipeline(**fields), A)


def test_a_status_that_nobody_knows_yet_means_that_the_pipeline_goes_on() -> None:
    assert ended_at(pipeline(status="waiting_for_approval", finished_at=None)) is None


# --- builds that are watched ----------------------------------------------------------------------------


def test_a_pipeline_that_never_ran_is_no_build() -> None:
    assert build_of(settle(chain_of("base>a")), "a", pipeline(status="skipped")) is None


def test_what_is_told_twice_is_known() -> None:
    chain = settle(chain_of("base>a"))
    start(chain, "a", "5", 10)
    assert build_of(chain, "a", pipeline()) == "5"
    finish(chain, "a", "5", 20, "v0")
    assert build_of(chain, "a", pipeline()) is None
    assert build_of(chain, "a", pipeline(status="running", updated_at=15.0, finished_at=None)) is None


def test_a_pipeline_that_is_retried_keeps_its_id_and_is_a_build_of_its_own() -> None:
    chain = settle(chain_of("base>a"))
    start(chain, "a", "5", 10)
    finish(chain, "a", "5", 20.5, "v0")
    again = pipeline(status="running", updated_at=21.0, finished_at=None)
    assert build_of(chain, "a", again) == "5.2"
    chain.apply(observe_start(again, A, "5.2", None, 30.0))
    assert build_of(chain, "a", pipeline(updated_at=25.0, finished_at=25.0)) == "5.2"


@pytest.mark.parametrize("ahead", [-86_400.0, 0.0, 86_400.0])
def test_what_happened_is_put_into_the_time_of_our_clock(ahead: float) -> None:
    times = {"created_at": 40.0 + ahead, "finished_at": 50.0 + ahead, "ahead_seconds": ahead}
    begun = observe_start(pipeline(**times), A, "5", None, 41.0)
    ended = observe_failure(pipeline(status="failed", **times), A, "5", 51.0)
    assert (begun.at, begun.told_at) == (40.0, 40.0 + ahead)
    assert (ended.at, ended.told_at) == (50.0, 50.0 + ahead)
    # GitLab's clock is known to a second or so: nothing happened after it was seen.
    assert observe_start(pipeline(**times), A, "5", None, 39.5).at == 39.5
    assert observe_failure(pipeline(status="failed", **times), A, "5", 49.5).at == 49.5


def test_a_pipeline_after_gitlabs_clock_was_put_back_is_not_before_the_build_on_record() -> None:
    chain = settle(chain_of("base>a"))
    start(chain, "a", "5", 10)
    chain.apply(BuildFinished(project="a", build="5", at=20.0, told_at=86_420.0, outcome="success"))
    before = pipeline(4, created_at=86_405.0, finished_at=86_415.0, ahead_seconds=86_400.0)
    after = pipeline(6, created_at=30.0, finished_at=40.0, ahead_seconds=0.0)
    assert build_of(chain, "a", before) is None
    assert build_of(chain, "a", after) == "6"


@pytest.mark.parametrize("outcome", ["success", "failed"])
def test_a_pipeline_that_began_and_ended_in_one_second_is_one_build(outcome: str) -> None:
    """REST tells parts of a second, GraphQL cuts them off: the end seems to be before the start."""
    chain = settle(chain_of("base>a"))
    move(chain, image("base"), "v1", at=1)
    chain.apply(
        observe_start(pipeline(created_at=6.03, status="running", finished_at=None), A, "5", None, 7.0)
    )
    cut = pipeline(created_at=6.0, status=outcome, updated_at=6.0, finished_at=6.0)
    if outcome == "failed":
        chain.apply(observe_failure(cut, A, "5", 7.0))
    else:
        own = published(a=read("v1", {image("base"): "v1"}))
        for seen in observe_success(chain, cut, A, "5", own=own, bases=NOTHING):
            chain.apply(seen)
    whole = pipeline(created_at=6.03, status=outcome, updated_at=6.3, finished_at=6.296)
    assert build_of(chain, "a", whole) is None


def test_an_old_pipeline_that_is_told_late_is_no_news() -> None:
    chain = settle(chain_of("base>a"))
    start(chain, "a", "5", 10)
    finish(chain, "a", "5", 20, "v0")
    assert build_of(chain, "a", pipeline(4, finished_at=15.0)) is None


def test_the_largest_pipeline_counts_retries_and_refusals_right() -> None:
    chain = settle(chain_of("base>a"))
    for build in ("5", "5.2", "refused:ffff"):
        start(chain, "a", build, 10)
        finish(chain, "a", build, 20, "v0")
    assert largest_pipeline(chain, "a") == 5


def test_our_own_build_was_made_from_what_was_decided_and_answers_the_person_who_asked() -> None:
    intent = Intent(
        id="i",
        source="a",
        project_id=A.project_id,
        at=50.0,
        inputs={image("base"): "v1"},
        cause="x",
        cascade="i",
        after_pipeline=0,
    )
    seen = observe_start(pipeline(created_at=40.0), A, "5", intent, 51.0)
    assert (seen.at, seen.inputs, seen.cause) == (50.0, intent.inputs, "x")


@pytest.mark.parametrize("gitlab_status", ["canceled", "manual"])
def test_a_build_that_was_cancelled_or_waits_for_a_person_is_not_started_again_by_itself(
    gitlab_status: str,
) -> None:
    chain = settle(chain_of("base>a"))
    move(chain, image("base"), "v1", at=1)
    start(chain, "a", "5", 10)
    chain.apply(observe_failure(pipeline(status=gitlab_status), A, "5", 30.0))
    assert started(chain, 1e9) == []
    move(chain, image("base"), "v2", at=30)
    assert started(chain, 30) == ["a"]


def test_a_pipeline_that_waits_for_a_person_changes_nothing_about_a_project_whose_image_is_fresh() -> None:
    chain = settle(chain_of("base>a"))
    start(chain, "a", "5", 10)
    chain.apply(observe_failure(pipeline(status="manual"), A, "5", 30.0))
    assert state_of(chain, "a") == "fresh"


def test_images_that_a_pipeline_pushed_before_it_waits_for_a_person_count() -> None:
    chain = settle(chain_of("base>a"))
    assert not is_built_by_hand(chain, published(a=read("v0")))
    assert is_built_by_hand(chain, published(a=read("v1")))


# --- what images say ------------------------------------------------------------------------------------


def test_success_gives_the_images_their_new_versions_and_the_label_is_believed() -> None:
    chain = settle(chain_of("base>a a>c"))
    start(chain, "a", "5", 10)
    own = published(a=read("v1", {image("base"): "v0"}))
    for seen in observe_success(chain, pipeline(), A, "5", own=own, bases=NOTHING):
        chain.apply(seen)
    assert started(chain, 30) == ["c"]


def test_a_reading_counts_as_the_newest_though_gitlabs_clock_is_behind() -> None:
    chain = settle(chain_of("base>a a>c"))
    start(chain, "a", "5", 10)
    move(chain, image("a"), "v0", at=25)  # no news, so the reading at 0 is the last one
    chain.apply(ImageFound(project="a", at=0, inputs={image("base"): "v0"}))
    chain.facts.read_at[chain.graph.input_number[image("a")]] = 25.0
    own = published(a=read("v1", {image("base"): "v0"}))
    for seen in observe_success(chain, pipeline(finished_at=20.0), A, "5", own=own, bases=NOTHING):
        chain.apply(seen)
    assert started(chain, 30) == ["c"]


def test_a_label_that_a_base_passed_on_is_not_the_images_own() -> None:
    chain = settle(chain_of("base>a"))
    own, bases = published(a=read("v1", {"x": "1"})), published(base=read("v0", {"x": "1"}))
    assert labelled_inputs(chain, own, bases) is None
    assert labelled_inputs(chain, own, NOTHING) == {"x": "1"}


def test_of_two_labels_the_one_that_is_behind_counts() -> None:
    graph = Graph(
        [project("base"), Source(id="a", kind="project", images=(image("a"), image("slim")))],
        [edge("a", "base")],
    )
    chain = settle(Chain(graph, chain_of("x").facts.policy))
    old, new = read("1", {image("base"): "old"}), read("2", {image("base"): "v0"})
    for own in (published(a=old, slim=new), published(a=new, slim=old)):
        assert labelled_inputs(chain, own, NOTHING) == {image("base"): "old"}


def test_declared_dependencies_are_taken_from_the_start_of_the_build_for_labels_do_not_speak_of_them() -> (
    None
):
    graph = Graph(
        [project("tool"), project("base"), project("a")], [edge("a", "base"), edge("a", "tool", "declared")]
    )
    chain = settle(Chain(graph, chain_of("x").facts.policy))
    start(chain, "a", "5", 10)
    own = published(a=read("v1", {image("base"): "v0"}))
    for seen in observe_success(chain, pipeline(), A, "5", own=own, bases=NOTHING):
        chain.apply(seen)
    assert state_of(chain, "a") == "fresh"


def test_layers_prove_which_base_an_image_holds() -> None:
    bases = published(base=read("v1", None, "l1", "l2"))
    assert proven_inputs(published(a=read("x", None, "l1", "l2", "l3")), bases) == ({image("base"): "v1"}, ())
    assert proven_inputs(published(a=read("x", None, "l1", "l3")), bases) == ({}, (image("base"),))


def test_with_several_stages_layers_prove_no_base_to_be_old() -> None:
    bases = published(base=read("v1", None, "l1"), tool=read("v1", None, "l9"))
    held, older = proven_inputs(published(a=read("x", None, "l1", "l3")), bases)
    assert (held, older) == ({image("base"): "v1"}, ())


def test_an_image_that_was_pushed_past_gitlab_tells_what_it_was_built_from() -> None:
    chain = settle(chain_of("base>a"))
    own = published(a=read("v1", {image("base"): "older"}))
    for seen in observe_pushed_image(chain, "a", own=own, bases=NOTHING):
        chain.apply(seen)
    assert started(chain, 40) == ["a"]
    assert observe_pushed_image(chain, "a", own=published(a=read("v2")), bases=NOTHING) == []


# --- first sight ----------------------------------------------------------------------------------------


def first_sight(chain: Chain, own: Published, *builds: Pipeline) -> Chain:
    move(chain, image("base"), "v0", at=1)
    chain.apply(ImageFound(project="base", at=1, inputs={}))
    for seen in observe_first_image(chain, A, builds, own=own, bases=NOTHING):
        chain.apply(seen)
    for seen in observe_first_builds(chain, A, builds, 1e9):
        chain.apply(seen)
    return chain


def test_first_sight_adopts_a_project_with_a_successful_pipeline() -> None:
    chain = first_sight(chain_of("base>a"), published(a=read("v0")), pipeline())
    assert state_of(chain, "a") == "fresh"
    assert decide(chain, 1e9).actions == ()


def test_at_first_sight_a_label_is_believed() -> None:
    chain = first_sight(chain_of("base>a"), published(a=read("v0", {image("base"): "older"})), pipeline())
    assert started(chain, 30) == ["a"]


def test_a_project_without_pipelines_and_images_is_no_matter_of_builds() -> None:
    chain = chain_of("base>a")
    seen = observe_first_image(chain, A, (), own=published(a=ImageAbsent()), bases=NOTHING)
    assert seen == [WentInactive(project="a", at=30.0)]


def test_what_failed_before_we_came_and_was_never_built_is_not_started_by_itself() -> None:
    chain = first_sight(chain_of("base>a"), published(a=ImageAbsent()), pipeline(status="failed"))
    assert state_of(chain, "a") == "failed"
    assert started(chain, 1e9) == []


def test_a_lost_store_counts_the_failures_with_the_present_inputs_again() -> None:
    own = published(a=read("v0", {image("base"): "older"}))
    failed = [pipeline(6 + n, status="failed", created_at=21.0 + n, finished_at=22.0 + n) for n in range(7)]
    chain = first_sight(chain_of("base>a"), own, pipeline(), *failed)
    assert state_of(chain, "a") == "failed"
    assert chain.facts.states[chain.graph.number["a"]].failure is not None
    assert started(chain, 1e9) == []


def test_a_pipeline_that_runs_at_first_sight_is_waited_for() -> None:
    own = published(a=read("v0", {image("base"): "older"}))
    chain = first_sight(chain_of("base>a"), own, pipeline(), pipeline(6, status="running", finished_at=None))
    assert state_of(chain, "a") == "building"
    assert not [one for one in decide(chain, 30).actions if isinstance(one, StartBuild)]


def test_images_that_could_not_be_read_are_told() -> None:
    own = published(a=ImageUnchecked("r.io/a: the registry is down"), b=ImageAbsent())
    assert own.unchecked == ("r.io/a: the registry is down",)


def test_the_end_of_a_build_says_why_it_failed() -> None:
    seen = observe_failure(pipeline(status="failed", url="https://gitlab.test/5"), A, "5", 30.0)
    assert isinstance(seen, BuildFinished)
    assert seen.message == "its pipeline failed: https://gitlab.test/5"
    seen = observe_failure(pipeline(status="failed", yaml_errors="jobs config"), A, "5", 30.0)
    assert isinstance(seen, BuildFinished)
    assert seen.message == "its pipeline failed (its CI configuration is wrong: jobs config): 5"


def test_a_cancelled_pipeline_that_a_newer_one_replaced_is_no_failure_at_first_sight() -> None:
    chain = chain_of("b -> a")
    builds = [pipeline(5, status="canceled"), pipeline(6, status="running", finished_at=None)]
    seen = observe_first_builds(chain, A, builds, 1e9)
    assert [(type(one).__name__, one.build) for one in seen] == [("BuildStarted", "6")]  # type: ignore[union-attr]
    skipped = [pipeline(5, status="canceled"), pipeline(6, status="skipped")]
    assert len(observe_first_builds(chain, A, skipped, 1e9)) == 2
