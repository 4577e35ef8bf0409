"""The decided cases of the design (section 3) and of the modules, each as one test."""

import pytest

from chain.world import (
    chain_of,
    edge,
    external,
    fail,
    finish,
    image,
    immediate,
    move,
    project,
    run_all,
    settle,
    start,
    started,
)
from imagechain.chain import (
    BuildFinished,
    BuildStarted,
    Chain,
    Graph,
    ImageFound,
    Paused,
    RebuildAsked,
    Resumed,
    RetryAsked,
    Source,
    UnknownSourceError,
    VersionRead,
    WentInactive,
    decide,
    files_input,
    status,
)


def state_of(chain: Chain, name: str) -> str:
    return next(shown.state for shown in status(chain) if shown.id == name)


def reasons_of(chain: Chain, name: str) -> list[str]:
    return [reason.kind for shown in status(chain) if shown.id == name for reason in shown.reasons]


def is_settled(chain: Chain, name: str) -> bool:
    return chain.facts.states[chain.graph.number[name]].is_settled


# --- the rule at the centre -----------------------------------------------------------------------------


def test_in_a_diamond_the_bottom_is_built_once_after_both_sides() -> None:
    chain = settle(chain_of("base>a base>b a>c b>c"))
    chain.apply(RebuildAsked(project="base", at=1))
    assert run_all(chain, now=1) == ["base", "a", "b", "c"]
    assert [shown.state for shown in status(chain)] == ["fresh"] * 4


def test_a_failure_stops_the_chain_below_it_and_nothing_else() -> None:
    chain = settle(chain_of("base>a base>b a>c b>d", immediate(retry_seconds=())))
    move(chain, image("base"), "v1", at=1)
    assert started(chain, 1) == ["a", "b"]
    start(chain, "a", "a#1", 1)
    start(chain, "b", "b#1", 1)
    fail(chain, "a", "a#1", 2)
    finish(chain, "b", "b#1", 2, "v1")
    assert started(chain, 2) == ["d"]
    states = {shown.id: (shown.state, shown.blocked_by) for shown in status(chain)}
    assert states["a"] == ("failed", ())
    assert states["c"] == ("blocked", ("a",))


def test_after_a_retry_that_succeeds_the_chain_goes_on_by_itself() -> None:
    chain = settle(chain_of("base>a a>c", immediate(retry_seconds=())))
    move(chain, image("base"), "v1", at=1)
    start(chain, "a", "a#1", 1)
    fail(chain, "a", "a#1", 2)
    assert decide(chain, 1_000_000).actions == ()
    chain.apply(RetryAsked(project="a", at=1_000_000, by="alice"))
    assert run_all(chain, now=1_000_000) == ["a", "c"]


def test_a_rebuild_that_changes_nothing_stops_the_cascade() -> None:
    chain = settle(chain_of("base>a a>c c>d"))
    move(chain, image("base"), "v1", at=1)
    assert run_all(chain, now=1, cut_off=["a"]) == ["a"]
    assert all(shown.state == "fresh" for shown in status(chain))


def test_a_moved_external_base_starts_a_cascade() -> None:
    graph = Graph(
        [external("debian"), project("a"), project("b")], [edge("a", image("debian")), edge("b", "a")]
    )
    chain = settle(Chain(graph, immediate()))
    move(chain, image("debian"), "v1", at=1)
    assert run_all(chain, now=1) == ["a", "b"]


# --- decided cases --------------------------------------------------------------------------------------


def test_first_sight_adopts_and_starts_nothing() -> None:
    chain = chain_of("base>a")
    for name in ("base", "a"):
        move(chain, image(name), "v7", at=1)
        chain.apply(ImageFound(project=name, at=1, inputs=None))
    assert decide(chain, 10).actions == ()
    assert [shown.state for shown in status(chain)] == ["fresh", "fresh"]
    move(chain, image("base"), "v8", at=2)
    assert started(chain, 2) == ["a"]


def test_first_sight_adopts_an_input_that_is_read_only_later() -> None:
    chain = chain_of("base>a")
    chain.apply(ImageFound(project="a", at=1, inputs=None))
    chain.apply(ImageFound(project="base", at=1, inputs=None))
    move(chain, image("base"), "v7", at=2)
    assert decide(chain, 10).actions == ()
    move(chain, image("base"), "v8", at=3)
    assert started(chain, 3) == ["a"]


def test_what_layers_prove_stale_at_first_sight_is_shown_and_not_started_until_an_input_moves() -> None:
    chain = chain_of("base>a other>a a>c")
    for name in ("base", "other", "a", "c"):
        move(chain, image(name), "v1", at=1)
        proven = (image("base"),) if name == "a" else ()
        chain.apply(ImageFound(project=name, at=1, inputs=None, proven_stale=proven))
    assert state_of(chain, "a") == "stale"
    assert reasons_of(chain, "a") == ["proven"]
    assert state_of(chain, "c") == "fresh"
    assert decide(chain, 10).actions == ()
    move(chain, image("other"), "v2", at=2)
    assert started(chain, 2) == ["a"]
    assert reasons_of(chain, "a") == ["moved", "proven"]
    assert run_all(chain, now=2) == ["a", "c"]
    assert reasons_of(chain, "a") == []


def test_what_is_stale_at_first_sight_is_built_when_a_person_asks() -> None:
    chain = chain_of("base>a")
    for name in ("base", "a"):
        move(chain, image(name), "v1", at=1)
        chain.apply(
            ImageFound(project=name, at=1, inputs=None, proven_stale=(image("base"),) * (name == "a"))
        )
    chain.apply(RebuildAsked(project="a", at=2, by="alice"))
    assert started(chain, 2) == ["a"]


def test_an_image_with_a_record_is_believed_at_once() -> None:
    chain = chain_of("base>a")
    move(chain, image("base"), "v2", at=1)
    chain.apply(ImageFound(project="base", at=1, inputs={}))
    chain.apply(ImageFound(project="a", at=1, inputs={image("base"): "v1"}))
    assert started(chain, 1) == ["a"]


def test_the_build_of_an_adopted_image_is_no_news_later() -> None:
    chain = chain_of("base>a")
    for name in ("base", "a"):
        move(chain, image(name), "v0", at=1)
        chain.apply(ImageFound(project=name, at=1, inputs=None, build="7"))
    move(chain, image("base"), "v1", at=2)
    start(chain, "a", "7", 1)
    finish(chain, "a", "7", 3, "v1")
    assert started(chain, 3) == ["a"]
    assert chain.facts.states[chain.graph.number["a"]].runs == {}


def test_a_second_first_sight_forgets_nothing() -> None:
    chain = chain_of("base>a")
    for name in ("base", "a"):
        chain.apply(ImageFound(project=name, at=1, inputs=None))
    move(chain, image("base"), "v1", at=2)
    move(chain, image("base"), "v2", at=3)
    chain.apply(ImageFound(project="a", at=4, inputs=None))
    assert started(chain, 4) == ["a"]


def test_a_build_that_others_started_makes_the_project_building_and_then_fresh() -> None:
    chain = settle(chain_of("base>a"))
    move(chain, image("base"), "v1", at=1)
    chain.apply(BuildStarted(project="a", build="push", at=2, cause="push"))
    assert state_of(chain, "a") == "building"
    assert decide(chain, 2).actions == ()
    finish(chain, "a", "push", 3, "v1")
    assert state_of(chain, "a") == "fresh"


def test_the_label_of_an_image_is_believed_before_the_versions_at_the_start_of_its_build() -> None:
    chain = settle(chain_of("base>a"))
    move(chain, image("base"), "v1", at=1)
    start(chain, "a", "push", 2)
    label = {image("base"): "v0", files_input("a"): "v0"}
    chain.apply(BuildFinished(project="a", build="push", at=3, outcome="success", inputs=label))
    assert reasons_of(chain, "a") == ["moved"]


def test_without_a_label_the_versions_count_that_were_known_when_the_build_started() -> None:
    chain = settle(chain_of("base>a"))
    move(chain, image("base"), "v1", at=5)
    chain.apply(BuildStarted(project="a", build="push", at=4))
    finish(chain, "a", "push", 6, "v1")
    assert [(reason.before, reason.after) for shown in status(chain) for reason in shown.reasons] == [
        ("v0", "v1")
    ]
    assert started(chain, 6) == ["a"]


def test_layers_win_over_times() -> None:
    chain = settle(chain_of("base>a"))
    start(chain, "a", "push", 1)
    move(chain, image("base"), "v1", at=2)
    proven = {image("base"): "v1"}
    chain.apply(BuildFinished(project="a", build="push", at=3, outcome="success", proven=proven))
    assert state_of(chain, "a") == "fresh"


def test_no_child_is_decided_on_an_old_reading_of_a_build_that_ends() -> None:
    chain = settle(chain_of("base>a other>a"))
    move(chain, image("other"), "v1", at=1)
    start(chain, "base", "base#1", 1)
    assert started(chain, 2) == []
    finish(chain, "base", "base#1", 3, "v1")
    start(chain, "a", "a#1", 3)
    finish(chain, "a", "a#1", 4, "v1")
    assert decide(chain, 4).actions == ()


def test_a_parent_that_changes_while_its_child_builds_makes_it_stale_again_when_it_ends() -> None:
    chain = settle(chain_of("base>a"))
    move(chain, image("base"), "v1", at=1)
    start(chain, "a", "a#1", 1)
    move(chain, image("base"), "v2", at=2)
    assert decide(chain, 2).actions == ()
    finish(chain, "a", "a#1", 3, "v1")
    assert run_all(chain, now=3) == ["a"]
    assert state_of(chain, "a") == "fresh"


def test_a_project_without_builds_is_always_settled_and_its_images_count() -> None:
    chain = settle(chain_of("base>files files>a"))
    chain.apply(WentInactive(project="files", at=1))
    move(chain, image("base"), "v1", at=2)
    assert state_of(chain, "files") == "inactive"
    assert is_settled(chain, "files")
    assert decide(chain, 2).actions == ()
    move(chain, image("files"), "v1", at=3)
    assert started(chain, 3) == ["a"]


def test_a_project_without_builds_is_one_like_any_other_once_it_builds() -> None:
    chain = settle(chain_of("base>a"))
    chain.apply(WentInactive(project="a", at=1))
    start(chain, "a", "a#1", 2)
    assert state_of(chain, "a") == "building"
    finish(chain, "a", "a#1", 3, "v1")
    chain.apply(WentInactive(project="a", at=1))
    assert state_of(chain, "a") == "fresh"


def test_what_waits_for_a_manual_job_is_what_its_images_say() -> None:
    """No build is observed for it, so it is neither building nor failed."""
    chain = settle(chain_of("base>a"))
    assert state_of(chain, "a") == "fresh"


def test_a_pinned_reference_never_makes_its_child_stale() -> None:
    pinned = edge("a", "base", image=f"{image('base')}@sha256:{'0' * 64}")
    chain = settle(Chain(Graph([project("base"), project("a")], [pinned]), immediate()))
    move(chain, image("base"), "v1", at=1)
    assert state_of(chain, "a") == "fresh"
    assert decide(chain, 1).actions == ()


def test_a_cancelled_build_is_not_retried_until_an_input_moves() -> None:
    chain = settle(chain_of("base>a"))
    move(chain, image("base"), "v1", at=1)
    start(chain, "a", "a#1", 1)
    chain.apply(BuildFinished(project="a", build="a#1", at=2, outcome="cancelled"))
    assert state_of(chain, "a") == "failed"
    assert decide(chain, 1_000_000).actions == ()
    move(chain, image("base"), "v2", at=3)
    assert started(chain, 3) == ["a"]


def test_a_cancelled_build_is_retried_when_a_person_asks() -> None:
    chain = settle(chain_of("base>a"))
    move(chain, image("base"), "v1", at=1)
    start(chain, "a", "a#1", 1)
    chain.apply(BuildFinished(project="a", build="a#1", at=2, outcome="cancelled"))
    chain.apply(RetryAsked(project="a", at=3))
    assert started(chain, 3) == ["a"]


def test_a_declared_dependency_is_cut_off_by_content_too() -> None:
    graph = Graph([project("base"), project("a")], [edge("a", "base", "declared")])
    chain = settle(Chain(graph, immediate()))
    chain.apply(RebuildAsked(project="base", at=1))
    assert run_all(chain, now=1, cut_off=["base"]) == ["base"]


def test_a_declared_dependency_without_an_image_moves_with_the_parents_builds() -> None:
    graph = Graph([Source(id="lib", kind="project"), project("a")], [edge("a", "lib", "declared")])
    chain = settle(Chain(graph, immediate()))
    start(chain, "lib", "7", 1)
    chain.apply(BuildFinished(project="lib", build="7", at=2, outcome="success", outputs={"lib": "7"}))
    assert started(chain, 2) == ["a"]


def test_images_of_ci_jobs_make_stale_only_where_the_settings_say_so() -> None:
    sources, edges = [project("runner"), project("a")], [edge("a", "runner", "ci-image")]
    shown = settle(Chain(Graph(sources, edges), immediate()))
    counted = settle(Chain(Graph(sources, edges, frozenset({"ci-image"})), immediate()))
    for chain in (shown, counted):
        move(chain, image("runner"), "v1", at=1)
    assert started(shown, 1) == []
    assert started(counted, 1) == ["a"]


# --- decided here ---------------------------------------------------------------------------------------


def test_what_was_never_observed_is_unknown_and_holds_up_what_is_below() -> None:
    chain = chain_of("base>a")
    move(chain, image("base"), "v2", at=1)
    chain.apply(ImageFound(project="a", at=1, inputs={image("base"): "v1"}))
    assert state_of(chain, "base") == "unknown"
    assert state_of(chain, "a") == "blocked"
    assert decide(chain, 1).actions == ()


def test_an_image_that_was_looked_for_in_vain_was_never_built() -> None:
    chain = chain_of("base")
    move(chain, image("base"), None, at=1)  # type: ignore[arg-type]
    assert reasons_of(chain, "base") == ["never-built"]
    assert started(chain, 1) == ["base"]


def test_an_image_that_was_deleted_is_rebuilt_and_what_follows_only_if_its_content_differs() -> None:
    chain = settle(chain_of("base>a"))
    chain.apply(VersionRead(input=image("base"), version=None, at=1))
    assert reasons_of(chain, "base") == ["missing"]
    assert reasons_of(chain, "a") == []
    start(chain, "base", "base#1", 1)
    finish(chain, "base", "base#1", 2, "v0")
    assert decide(chain, 2).actions == ()


def test_an_image_that_was_not_there_at_first_sight_is_not_missed() -> None:
    chain = chain_of("base")
    chain.apply(ImageFound(project="base", at=1, inputs=None))
    chain.apply(VersionRead(input=image("base"), version=None, at=1))
    assert state_of(chain, "base") == "fresh"


def test_an_image_without_a_record_that_is_not_adopted_is_stale() -> None:
    chain = chain_of("base")
    chain.apply(ImageFound(project="base", at=1, inputs=None, adopt=False))
    assert reasons_of(chain, "base") == ["no-record"]


def test_changed_files_are_a_reason_of_their_own_and_a_new_dependency_is_another() -> None:
    chain = settle(chain_of("base>a"))
    move(chain, files_input("a"), "v1", at=1)
    assert reasons_of(chain, "a") == ["files"]
    chain.apply(ImageFound(project="a", at=2, inputs={files_input("a"): "v1"}))
    assert reasons_of(chain, "a") == ["added"]


def test_an_input_that_cannot_be_read_starts_nothing() -> None:
    chain = settle(chain_of("base>a"))
    chain.apply(VersionRead(input=image("base"), version=None, at=1))
    assert state_of(chain, "a") == "blocked" or reasons_of(chain, "a") == []
    assert started(chain, 1) == ["base"]


def test_an_older_reading_is_ignored() -> None:
    chain = settle(chain_of("base>a"), at=10)
    move(chain, image("base"), "v1", at=9)
    assert state_of(chain, "a") == "fresh"


def test_a_build_that_succeeds_without_holding_its_inputs_counts_as_failed() -> None:
    chain = settle(chain_of("base>a", immediate(retry_seconds=())))
    move(chain, image("base"), "v1", at=1)
    start(chain, "a", "a#1", 1)
    old = {image("base"): "v0"}
    chain.apply(BuildFinished(project="a", build="a#1", at=2, outcome="success", inputs=old))
    assert state_of(chain, "a") == "failed"
    assert decide(chain, 1_000).actions == ()


def test_a_build_that_publishes_nothing_counts_as_failed() -> None:
    chain = chain_of("base", immediate(retry_seconds=()))
    chain.apply(VersionRead(input=image("base"), version=None, at=0))
    start(chain, "base", "base#1", 1)
    chain.apply(
        BuildFinished(project="base", build="base#1", at=2, outcome="success", outputs={image("base"): None})
    )
    assert state_of(chain, "base") == "failed"
    assert reasons_of(chain, "base") == ["missing"]


def test_a_build_that_nobody_saw_start_and_that_has_no_record_is_built_once_more() -> None:
    chain = settle(chain_of("base>a"))
    finish(chain, "a", "a#1", 2, "v1")
    assert reasons_of(chain, "a") == ["no-record"]
    assert run_all(chain, now=2) == ["a"]


def test_several_builds_of_one_project_keep_it_building_until_the_last_ends() -> None:
    chain = settle(chain_of("base>a"))
    start(chain, "base", "one", 1)
    start(chain, "base", "two", 2)
    start(chain, "base", "two", 2)
    finish(chain, "base", "two", 3, "v2")
    assert state_of(chain, "base") == "building"
    finish(chain, "base", "one", 4, "v1")
    finish(chain, "base", "one", 9, "v9")
    start(chain, "base", "one", 1)
    assert state_of(chain, "base") == "fresh"
    assert chain.facts.builds_count == 0
    assert started(chain, 4) == ["a"]


def test_an_outcome_older_than_the_one_on_record_changes_nothing_but_that_it_ended() -> None:
    chain = settle(chain_of("base>a"))
    start(chain, "a", "one", 1)
    start(chain, "a", "two", 2)
    finish(chain, "a", "two", 5, "v2")
    fail(chain, "a", "one", 4)
    shown = status(chain)[0]
    assert (shown.state, shown.last_build and shown.last_build.status) == ("fresh", "success")


def test_a_person_gets_a_build_even_of_what_is_fresh_and_only_one_for_each_question() -> None:
    chain = settle(chain_of("base>a"))
    asked = RebuildAsked(project="a", at=1, by="alice")
    chain.apply(asked)
    assert run_all(chain, now=1) == ["a"]
    chain.apply(asked)
    assert decide(chain, 5).actions == ()


def test_a_question_during_a_build_is_answered_by_another_build() -> None:
    chain = settle(chain_of("base>a"))
    start(chain, "a", "a#1", 1)
    chain.apply(RebuildAsked(project="a", at=2))
    finish(chain, "a", "a#1", 3, "v1")
    assert run_all(chain, now=3) == ["a"]


def test_nothing_starts_in_a_paused_project_subtree_or_chain() -> None:
    chain = settle(chain_of("base>a a>b base>c"))
    for name in ("a", "b", "c"):
        move(chain, files_input(name), "v1", at=1)
    chain.apply(Paused(project="a", at=1, subtree=True, by="alice"))
    assert started(chain, 1) == ["c"]
    assert {shown.id: shown.state for shown in status(chain)} == {
        "a": "paused",
        "b": "paused",
        "base": "fresh",
        "c": "stale",
    }
    chain.apply(Paused(project=None, at=2))
    assert decide(chain, 2).actions == ()
    chain.apply(Resumed(project=None, at=3))
    chain.apply(Paused(project=None, at=2))
    chain.apply(Resumed(project="a", at=4))
    assert started(chain, 4) == ["a", "c"]


def test_a_second_pause_takes_the_place_of_the_first() -> None:
    chain = settle(chain_of("base>a"))
    for at, subtree in ((1, True), (2, False)):
        chain.apply(Paused(project="base", at=at, subtree=subtree))
    assert [shown.state for shown in status(chain)] == ["fresh", "paused"]
    chain.apply(Resumed(project="base", at=3))
    assert [shown.state for shown in status(chain)] == ["fresh", "fresh"]


def test_an_older_pause_or_resume_changes_nothing() -> None:
    chain = settle(chain_of("base"))
    chain.apply(Paused(project="base", at=5))
    chain.apply(Resumed(project="base", at=4))
    chain.apply(Paused(project="base", at=3, reason="late"))
    assert state_of(chain, "base") == "paused"
    chain.apply(Resumed(project="base", at=6))
    chain.apply(Paused(project="base", at=5))
    assert state_of(chain, "base") == "fresh"


def test_members_of_a_cycle_never_trigger_each_other_and_the_rest_works_on() -> None:
    chain = settle(chain_of("a>b b>a base>a b>leaf"))
    move(chain, image("a"), "v1", at=1)
    assert decide(chain, 1).actions == ()
    assert {shown.id: shown.state for shown in status(chain)} == {
        "a": "cycle",
        "b": "cycle",
        "base": "fresh",
        "leaf": "fresh",
    }
    move(chain, image("base"), "v1", at=2)
    assert run_all(chain, now=2) == ["a"]
    move(chain, image("b"), "v1", at=9)
    assert run_all(chain, now=9) == ["leaf"]


def test_a_cycle_that_nothing_can_begin_blocks_what_is_below_it_only() -> None:
    chain = chain_of("a>b b>a b>leaf other")
    for name in ("a", "b", "leaf", "other"):
        chain.apply(VersionRead(input=image(name), version=None, at=0))
    assert started(chain, 0) == ["other"]
    shown = {shown.id: (shown.state, shown.blocked_by) for shown in status(chain)}
    assert shown["a"] == ("cycle", ())
    assert shown["leaf"] == ("blocked", ("b",))


@pytest.mark.parametrize(
    "seen",
    [
        VersionRead(input="registry.test/none:latest", version="v1", at=1),
        BuildStarted(project="none", build="1", at=1),
        BuildFinished(project="base", build="1", at=1, outcome="success", outputs={"none": "v1"}),
        RebuildAsked(project=image("debian"), at=1),
    ],
)
def test_an_observation_of_what_is_not_in_the_graph_is_a_bug_that_is_named(seen: VersionRead) -> None:
    chain = Chain(Graph([project("base"), external("debian")], []), immediate())
    with pytest.raises(UnknownSourceError, match=r"none|external image"):
        chain.apply(seen)


def test_a_build_that_another_took_the_place_of_is_no_failure_and_no_attempt() -> None:
    chain = settle(chain_of("b -> a"))
    chain.apply(BuildStarted(project="a", build="a1", at=50.0))
    chain.apply(BuildStarted(project="a", build="a2", at=51.0))
    chain.apply(BuildFinished(project="a", build="a1", at=52.0, outcome="superseded"))
    state = chain.facts.states[chain.graph.number_of("a")]
    assert (state.failure, list(state.runs)) == (None, ["a2"])
