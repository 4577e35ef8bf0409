"""When builds start: limits, order, quiet periods, back-off, windows, and the next wake-up."""

import re
from datetime import UTC, datetime, timedelta, timezone

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
    observations_of,
    project,
    settle,
    start,
    started,
)
from imagechain.chain import (
    Chain,
    FailBuild,
    GiveUp,
    Graph,
    Paused,
    Policy,
    RebuildAsked,
    RetryAsked,
    decide,
    files_input,
    local_policy,
)

DEBIAN = image("debian")


def on_debian(policy: Policy, *names: str) -> Chain:
    names = names or ("a",)
    graph = Graph([external("debian"), *map(project, names)], [edge(name, DEBIAN) for name in names])
    return settle(Chain(graph, policy))


def at(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def test_the_defaults_are_those_of_the_settings_table() -> None:
    assert Policy() == Policy(
        quiet_seconds=5 * 60,
        retry_seconds=(0, 60, 5 * 60, 30 * 60, 2 * 3600),
        hold_max_seconds=None,
        build_max_seconds=6 * 3600,
        builds_max=8,
        starts_per_minute_max=20,
        windows=(),
    )


def test_a_local_run_starts_at_once_and_tries_once() -> None:
    chain = on_debian(local_policy(jobs=2), "a", "b", "c")
    move(chain, DEBIAN, "v1", at=1)
    assert started(chain, 1) == ["a", "b"]
    start(chain, "a", "a#1", 1)
    fail(chain, "a", "a#1", 2)
    assert started(chain, 2) == ["b", "c"]


def test_builds_of_others_count_among_the_builds_at_once() -> None:
    chain = settle(chain_of("a b", immediate(builds_max=1)))
    start(chain, "a", "push", 1)
    chain.apply(RebuildAsked(project="b", at=2))
    assert decide(chain, 2).actions == ()
    finish(chain, "a", "push", 3, "v1")
    assert started(chain, 3) == ["b"]


def test_people_go_first_then_the_longest_remaining_path_then_the_id() -> None:
    chain = settle(chain_of("a>z b c d>y y>x", immediate(builds_max=9), x=100, b=70))
    for name in "abcd":
        move(chain, files_input(name), "v1", at=1)
    chain.apply(RebuildAsked(project="c", at=1, by="alice"))
    assert started(chain, 1) == ["c", "d", "a", "b"]


def test_only_so_many_builds_start_in_a_minute() -> None:
    chain = settle(chain_of("a b c", immediate(starts_per_minute_max=2)))
    for name in "abc":
        move(chain, files_input(name), "v1", at=100)
    assert started(chain, 100) == ["a", "b"]
    start(chain, "a", "a#1", 100)
    start(chain, "b", "b#1", 110)
    decision = decide(chain, 110)
    assert decision.actions == ()
    assert decision.wake_at == 160
    assert started(chain, 160) == ["c"]


def test_what_cannot_be_started_now_takes_no_place_of_others() -> None:
    chain = settle(chain_of("a b c", immediate(builds_max=2)))
    for name in "abc":
        move(chain, files_input(name), "v1", at=1)
    assert started(chain, 1) == ["a", "b"]
    assert [one.project for one in decide(chain, 1, held={"a"}).actions] == ["b", "c"]
    assert [one.project for one in decide(chain, 1, held={"a"}, starting=1).actions] == ["b"]
    assert decide(chain, 1, held={"a", "b"}, starting=2).actions == ()
    assert [one.project for one in decide(chain, 1, last={"a"}).actions] == ["b", "c"]
    assert [one.project for one in decide(chain, 1, last={"a"}, held={"b"}).actions] == ["c", "a"]


def test_nobody_is_woken_for_the_minute_when_nothing_waits_for_it() -> None:
    chain = settle(chain_of("a b", immediate(starts_per_minute_max=1, retry_seconds=(1_000.0,))))
    for name in "ab":
        move(chain, files_input(name), "v1", at=0)
    fail(chain, "b", "refused", 100)
    start(chain, "a", "a#1", 100)
    finish(chain, "a", "a#1", 101, "v1")
    assert decide(chain, 101).wake_at == 1_100


def test_a_moved_external_image_must_be_still_before_anything_starts() -> None:
    chain = on_debian(immediate(quiet_seconds=300.0))
    move(chain, DEBIAN, "v1", at=1_000)
    assert decide(chain, 1_000).wake_at == 1_300
    move(chain, DEBIAN, "v2", at=1_200)
    assert decide(chain, 1_300).wake_at == 1_500
    assert started(chain, 1_499) == []
    assert started(chain, 1_500) == ["a"]


def test_a_moved_project_need_not_be_still() -> None:
    chain = settle(chain_of("base>a", immediate(quiet_seconds=300.0)))
    move(chain, image("base"), "v1", at=1_000)
    assert started(chain, 1_000) == ["a"]


def test_an_external_image_that_moves_back_starts_nothing() -> None:
    chain = on_debian(immediate(quiet_seconds=300.0))
    move(chain, DEBIAN, "v1", at=1_000)
    move(chain, DEBIAN, "v0", at=1_010)
    assert decide(chain, 9_000) == decide(chain, 1_010)
    assert decide(chain, 9_000).wake_at is None


def test_a_failed_build_is_tried_again_after_each_wait_and_then_held() -> None:
    chain = settle(chain_of("a", immediate(retry_seconds=(0.0, 60.0, 300.0))))
    move(chain, files_input("a"), "v1", at=0)
    now, starts = 0.0, []
    for attempt in range(4):
        assert started(chain, now) == ["a"]
        starts.append(now)
        start(chain, "a", f"a#{attempt}", now)
        fail(chain, "a", f"a#{attempt}", now + 1)
        now = decide(chain, now + 1).wake_at or now + 1
    assert starts == [0, 1, 62, 363]
    assert decide(chain, now).wake_at is None
    move(chain, files_input("a"), "v2", at=now)
    assert started(chain, now) == ["a"]


def test_a_failure_with_inputs_that_moved_meanwhile_does_not_count_against_the_new_ones() -> None:
    chain = settle(chain_of("a", immediate(retry_seconds=())))
    move(chain, files_input("a"), "v1", at=0)
    start(chain, "a", "a#1", 1)
    move(chain, files_input("a"), "v2", at=2)
    fail(chain, "a", "a#1", 3)
    assert started(chain, 3) == ["a"]


def test_a_retry_that_was_asked_before_the_last_failure_changes_nothing() -> None:
    chain = settle(chain_of("a", immediate(retry_seconds=())))
    chain.apply(RetryAsked(project="a", at=0))
    assert decide(chain, 0).actions == ()
    move(chain, files_input("a"), "v1", at=0)
    start(chain, "a", "a#1", 1)
    fail(chain, "a", "a#1", 3)
    chain.apply(RetryAsked(project="a", at=2))
    assert decide(chain, 9).actions == ()


def test_a_start_that_was_refused_counts_as_a_failure() -> None:
    chain = settle(chain_of("a", immediate(retry_seconds=(60.0,))))
    move(chain, files_input("a"), "v1", at=0)
    fail(chain, "a", "refused", 1, "403 Forbidden")
    assert decide(chain, 1).wake_at == 61


def test_a_late_failure_does_not_shorten_the_wait() -> None:
    chain = settle(chain_of("a", immediate(retry_seconds=(60.0, 60.0))))
    move(chain, files_input("a"), "v1", at=0)
    start(chain, "a", "one", 1)
    start(chain, "a", "two", 1)
    fail(chain, "a", "two", 9)
    fail(chain, "a", "one", 5)
    assert decide(chain, 9).wake_at == 69


def test_a_success_that_is_older_than_a_failure_does_not_clear_it() -> None:
    chain = settle(chain_of("a", immediate(retry_seconds=(60.0,))))
    chain.apply(RebuildAsked(project="a", at=1))
    start(chain, "a", "one", 0)
    start(chain, "a", "two", 1)
    fail(chain, "a", "two", 9)
    finish(chain, "a", "one", 5, "v1")
    assert decide(chain, 9).wake_at == 69


def test_builds_start_only_in_windows() -> None:
    policy = immediate(windows=("* 22-23 * * *", "30 12 * * sun"))
    chain = settle(chain_of("a", policy))
    move(chain, files_input("a"), "v1", at=0)
    noon = at("2026-11-21T12:00:00+00:00")
    assert decide(chain, noon).actions == ()
    assert decide(chain, noon).wake_at == at("2026-11-21T22:00:00+00:00")
    assert started(chain, at("2026-11-21T23:59:59+00:00")) == ["a"]
    assert decide(chain, at("2026-11-22T00:00:00+00:00")).wake_at == at("2026-11-22T12:30:00+00:00")
    assert started(chain, at("2026-11-22T12:30:30+00:00")) == ["a"]


def test_windows_are_in_their_time_zone() -> None:
    zone = timezone(timedelta(hours=2))
    chain = settle(chain_of("a", immediate(windows=("0 22 * * *",), timezone=zone)))
    move(chain, files_input("a"), "v1", at=0)
    assert decide(chain, at("2026-11-21T12:00:00+00:00")).wake_at == at("2026-11-21T22:00:00+02:00")


def test_nobody_is_woken_for_a_window_when_nothing_waits_for_it() -> None:
    chain = settle(chain_of("a", immediate(windows=("0 22 * * *",))))
    assert decide(chain, 0).wake_at is None


@pytest.mark.parametrize("window", ["at night", "0 0 30 2 *", "0 0 22 * * *"])
def test_a_wrong_window_is_an_error_that_names_it(window: str) -> None:
    with pytest.raises(ValueError, match=re.escape(f"window {window!r} is no cron expression")):
        Policy(windows=(window,))


def test_a_build_that_lasts_too_long_is_to_be_failed() -> None:
    chain = settle(chain_of("a b", immediate(build_max_seconds=100.0)))
    start(chain, "a", "one", 0)
    start(chain, "a", "two", 50)
    start(chain, "b", "three", 90)
    assert decide(chain, 99).wake_at == 100
    decision = decide(chain, 100)
    assert decision.actions == (FailBuild(project="a", build="one"),)
    assert decision.wake_at == 150
    for seen in observations_of(decision.actions, 100):
        chain.apply(seen)
    assert decide(chain, 200).actions == (
        FailBuild(project="a", build="two"),
        FailBuild(project="b", build="three"),
    )
    assert decide(chain, 200).wake_at is None


def test_children_go_on_with_the_last_good_version_after_the_longest_hold() -> None:
    chain = settle(chain_of("base>a other>a", immediate(retry_seconds=(), hold_max_seconds=100.0)))
    move(chain, files_input("base"), "v1", at=0)
    move(chain, image("other"), "v1", at=0)
    start(chain, "base", "base#1", 0)
    fail(chain, "base", "base#1", 10)
    assert decide(chain, 10).wake_at == 110
    decision = decide(chain, 110)
    assert decision.actions == (GiveUp(project="base"),)
    for seen in observations_of(decision.actions, 110):
        chain.apply(seen)
    assert started(chain, 110) == ["a"]
    move(chain, files_input("base"), "v2", at=111)
    assert started(chain, 111) == ["base"]


def test_what_was_given_up_waits_again_once_it_builds() -> None:
    chain = settle(chain_of("base>a other>a", immediate(retry_seconds=(), hold_max_seconds=100.0)))
    move(chain, files_input("base"), "v1", at=0)
    start(chain, "base", "base#1", 0)
    fail(chain, "base", "base#1", 0)
    for seen in observations_of(decide(chain, 100).actions, 100):
        chain.apply(seen)
    start(chain, "base", "by hand", 101)
    move(chain, image("other"), "v1", at=102)
    assert decide(chain, 102).actions == ()
    for seen in observations_of([GiveUp(project="base")], 103):
        chain.apply(seen)
    assert decide(chain, 103).actions == ()


def test_a_decision_at_a_time_before_the_latest_observation_starts_nothing_early() -> None:
    chain = on_debian(immediate(quiet_seconds=100.0))
    move(chain, DEBIAN, "v1", at=0)
    move(chain, files_input("a"), "v0", at=500)
    assert started(chain, 500) == ["a"]
    assert decide(chain, 50).actions == ()
    assert decide(chain, 50).wake_at == 100


def test_a_pause_of_all_lets_running_builds_time_out() -> None:
    chain = settle(chain_of("a", immediate(build_max_seconds=100.0)))
    start(chain, "a", "a#1", 0)
    chain.apply(Paused(project=None, at=1))
    assert decide(chain, 1).wake_at == 100


def test_a_start_carries_the_inputs_that_are_known_and_the_reasons() -> None:
    chain = settle(chain_of("base>a other>a"))
    move(chain, image("base"), "sha256:0123456789abcdef", at=2)
    (action,) = [a for a in decide(chain, 2).actions if a.project == "a"]
    assert action.inputs == {  # type: ignore[union-attr]
        image("base"): "sha256:0123456789abcdef",
        image("other"): "v0",
        files_input("a"): "v0",
    }
    (reason,) = action.reasons  # type: ignore[union-attr]
    assert reason.text == "base moved (v0 -> sha256:0123456789ab…)"


def test_time_zones_default_to_utc() -> None:
    assert Policy().timezone is UTC
