"""The verdict on recorded histories, and its properties."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from imagechain.vetting.clocks import tell_age
from imagechain.vetting.history import History
from imagechain.vetting.judge import Limits, judge
from imagechain.vetting.values import DAY_SECONDS, Judgement, Sighting

REF = "docker.io/library/app:1"
BASE = "docker.io/library/debian:bookworm"
#: 2026-11-01.
NOW = 1_793_491_200.0
LIMITS = Limits(
    age_max_seconds=45 * DAY_SECONDS,
    rebuild_lag_max_seconds=7 * DAY_SECONDS,
    observed_min_seconds=14 * DAY_SECONDS,
)


def digest(name: object) -> str:
    return f"sha256:{name!s:0>64}"


def watch(  # a look each day, from so many days ago until now
    moves_days_ago: list[float],
    *,
    since_days: float = 200,
    ref: str = REF,
    base: str = "",
    clocks: dict[str, float] | None = None,
    versions: list[str] | None = None,
) -> list[Sighting]:
    sightings = []
    day = since_days
    while day >= 0:
        count = sum(moved >= day for moved in moves_days_ago)
        sightings.append(
            Sighting(
                ref=ref,
                platform="linux/amd64",
                digest=digest(count),
                seen_at=NOW - day * DAY_SECONDS,
                base=base,
                clocks=clocks or {},
                version=versions[count] if versions else "",
            )
        )
        day -= 1
    return sightings


def verdict(*histories: list[Sighting]) -> Judgement:
    return judge(
        History(sighting for history in histories for sighting in history),
        REF,
        "linux/amd64",
        limits=LIMITS,
        now=NOW,
    ).judgement


def test_a_tag_that_follows_its_base_within_days_is_continuous() -> None:
    base_moves: list[float] = [180, 159, 138, 117, 96, 75, 54, 33, 12]
    child_moves = [moved - 1 for moved in base_moves]
    assert verdict(watch(child_moves, base=BASE), watch(base_moves, ref=BASE)) == "continuous"


def test_a_tag_that_did_not_follow_the_last_move_of_its_base_is_stale_after_the_lag() -> None:
    base_moves: list[float] = [60, 39, 18]
    child = watch([59, 38], base=BASE)
    assert verdict(child, watch(base_moves, ref=BASE)) == "stale"
    assert verdict(watch([59, 38], base=BASE), watch([60, 39, 6], ref=BASE)) == "continuous"


def test_a_base_that_is_looked_at_less_often_is_not_taken_for_unfollowed() -> None:
    child = watch([20], base=BASE)
    seldom = [
        sighting for sighting in watch([21], ref=BASE) if sighting.seen_at in {NOW, NOW - 30 * DAY_SECONDS}
    ]
    assert len(seldom) == 2
    found = judge(History([*child, *seldom]), REF, "linux/amd64", limits=LIMITS, now=NOW)
    assert found.base_moved_at is None
    assert found.rebuild_lags == (0.0,)


def test_a_tag_that_was_built_on_the_present_base_is_not_waiting_whatever_the_times_say() -> None:
    base = watch([18], ref=BASE)
    child = watch([], base=BASE)
    assert (
        judge(History([*child, *base]), REF, "linux/amd64", limits=LIMITS, now=NOW).base_moved_at is not None
    )
    built = [msgspec.structs.replace(sighting, base_digest=base[-1].digest) for sighting in child]
    assert judge(History([*built, *base]), REF, "linux/amd64", limits=LIMITS, now=NOW).base_moved_at is None


def test_a_tag_with_equal_gaps_is_periodic() -> None:
    assert verdict(watch([190, 160, 130, 100, 70, 40, 10])) == "periodic"


def test_a_tag_that_moves_at_odd_times_but_often_is_continuous() -> None:
    assert verdict(watch([190, 187, 150, 141, 110, 80, 75, 40, 12])) == "continuous"


def test_a_tag_whose_every_move_is_another_version_is_built_on_release() -> None:
    assert verdict(watch([100, 60, 30], versions=["1.0", "1.1", "1.2", "1.3"])) == "on-release"


def test_a_tag_with_long_gaps_is_built_on_release_at_best() -> None:
    assert verdict(watch([190, 100, 30])) == "on-release"


def test_a_tag_that_stopped_moving_is_stale_and_then_frozen() -> None:
    assert verdict(watch([190, 160, 130, 100])) == "stale"
    assert verdict(watch([490, 460, 430, 400], since_days=500)) == "frozen"


def test_a_tag_that_never_moved_is_frozen_after_a_year_of_looks() -> None:
    assert verdict(watch([], since_days=366)) == "frozen"
    assert verdict(watch([], since_days=60)) == "stale"
    assert verdict(watch([], since_days=30)) == "unknown"


def test_an_image_with_an_epoch_date_is_not_stale_when_its_digest_moved_last_week() -> None:
    history = watch([70, 47, 33, 7], since_days=80, clocks={"config-created": 0.0})
    assert verdict(history) == "continuous"


def test_a_config_date_of_years_ago_alone_proves_nothing() -> None:
    history = watch([], since_days=20, clocks={"config-created": NOW - 900 * DAY_SECONDS})
    assert verdict(history) == "unknown"


def test_an_upload_date_of_years_ago_proves_at_the_first_look_that_an_image_is_frozen() -> None:
    history = watch([], since_days=0, clocks={"last-modified": NOW - 900 * DAY_SECONDS})
    assert verdict(history) == "frozen"


def test_a_push_that_changed_only_metadata_makes_nothing_younger() -> None:
    history = watch([], since_days=100)
    pushed = Sighting(
        ref=REF,
        platform="linux/amd64",
        digest=digest(0),
        seen_at=NOW,
        clocks={"tag-last-pushed": NOW - DAY_SECONDS},
    )
    found = judge(History([*history, pushed]), REF, "linux/amd64", limits=LIMITS, now=NOW)
    assert found.judgement == "stale"
    assert any("pushed again without a change" in line for line in found.evidence)


def test_the_first_look_is_unknown_and_says_since_when() -> None:
    found = judge(History(watch([], since_days=0)), REF, "linux/amd64", limits=LIMITS, now=NOW)
    assert found.judgement == "unknown"
    assert found.observed_since == NOW


def test_a_pinned_digest_never_moves() -> None:
    ref = f"docker.io/library/app@{digest(0)}"
    found = judge(History(watch([], ref=ref, since_days=0)), ref, "linux/amd64", limits=LIMITS, now=NOW)
    assert found.judgement == "frozen"


def test_clocks_that_are_far_apart_are_told() -> None:
    clocks = {"last-modified": NOW - 3 * DAY_SECONDS, "config-created": NOW - 400 * DAY_SECONDS}
    age = tell_age(History(watch([], since_days=0, clocks=clocks)).runs(REF, "linux/amd64"), NOW)
    assert age.clock == "last-modified"
    assert age.conflicts == ("last-modified and config-created are 397 days apart",)


@pytest.mark.parametrize("at", [0.0, 315_532_800.0, 315_619_200.0, NOW + 10 * DAY_SECONDS])
def test_fixed_and_future_times_are_not_believed(at: float) -> None:
    runs = History(watch([], since_days=0, clocks={"config-created": at})).runs(REF, "linux/amd64")
    age = tell_age(runs, NOW)
    assert age.clock is None
    assert age.readings[0].rejected


looks = st.lists(
    st.builds(
        Sighting,
        ref=st.just(REF),
        platform=st.sampled_from(["linux/amd64", "linux/arm64"]),
        digest=st.sampled_from([digest(number) for number in range(3)]),
        seen_at=st.floats(NOW - 500 * DAY_SECONDS, NOW),
        clocks=st.dictionaries(
            st.sampled_from(["config-created", "last-modified"]), st.floats(0, NOW), max_size=2
        ),
    ),
    min_size=1,
    max_size=30,
)


@given(looks)
def test_the_order_in_which_looks_are_added_changes_nothing(sightings: list[Sighting]) -> None:
    platform = sightings[0].platform
    distinct = {(each.seen_at, each.platform): each for each in sightings}.values()
    whole = History(distinct)
    grown = History()
    for sighting in distinct:
        grown.add(sighting)
    assert grown.runs(REF, platform) == whole.runs(REF, platform)


@given(looks)
def test_the_essential_looks_give_the_same_verdict(sightings: list[Sighting]) -> None:
    platform = sightings[0].platform
    distinct = {(each.seen_at, each.platform): each for each in sightings}.values()
    whole, short = History(distinct), History(History(distinct).essential())
    assert judge(short, REF, platform, limits=LIMITS, now=NOW) == judge(
        whole, REF, platform, limits=LIMITS, now=NOW
    )


@given(looks)
def test_only_proven_clocks_speak_against_an_image(sightings: list[Sighting]) -> None:
    found = judge(History(sightings), REF, sightings[0].platform, limits=LIMITS, now=NOW)
    if found.judgement in {"stale", "frozen"}:
        assert found.age.is_proven
        assert found.age.seconds > LIMITS.age_max_seconds
