"""The budget of requests as a value: pace, closed doors, quotas."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from imagechain.registry.budget import CLOSED_SECONDS_MAX, Budget, retry_after_seconds

PACES = st.integers(1, 2000)


@settings(deadline=None)
@given(PACES, st.lists(st.floats(0, 30), max_size=120))
def test_no_minute_has_more_requests_than_the_settings_allow(per_minute: int, pauses: list[float]) -> None:
    budget, now, starts = Budget(per_minute), 0.0, []
    for pause in pauses:
        now += pause
        budget, start = budget.take(now)
        assert start >= now
        starts.append(start)
    # Naive oracle: count the requests of every minute that begins with one of them.
    for first in starts:
        assert sum(first <= start < first + 60 - 1e-6 for start in starts) <= per_minute


@settings(deadline=None)
@given(PACES, st.integers(2, 200))
def test_the_pace_is_used_up_when_all_come_at_once(per_minute: int, count: int) -> None:
    budget, start = Budget(per_minute), 0.0
    for _ in range(count):
        budget, start = budget.take(0.0)
    # Half of a minute's requests at once, and the others at the rate that is left.
    burst = max(1, per_minute // 2)
    expected = max(0, count - burst) * 60 / (per_minute - burst + 1)
    assert start == pytest.approx(expected)


def test_after_a_minute_of_rest_the_burst_is_there_again() -> None:
    budget = Budget(100)
    for _ in range(50):
        budget, _ = budget.take(0.0)
    for _ in range(50):
        budget, start = budget.take(60.0)
        assert start == 60.0


@settings(deadline=None)
@given(st.floats(0, 1e9), st.floats(0, 1e12))
def test_a_registry_cannot_close_itself_for_ever(now: float, asked_seconds: float) -> None:
    closed = Budget(1).refused(now, asked_seconds)
    assert closed.opens_at(pull=False) <= now + CLOSED_SECONDS_MAX
    assert closed.opens_at(pull=False) >= now + min(asked_seconds, CLOSED_SECONDS_MAX)


def test_a_later_refusal_never_opens_the_door_sooner() -> None:
    budget = Budget(1).refused(0.0, 100.0).refused(1.0, 5.0)
    assert budget.opens_at(pull=False) == 100.0


def test_an_answer_ends_the_doubling() -> None:
    budget = Budget(1).refused(0.0, None).refused(0.0, None)
    assert budget.opens_at(pull=False) == 120.0
    again = budget.answered(200.0, {}).refused(200.0, None)
    assert again.opens_at(pull=False) == 260.0


def quota(remaining: int, limit: int = 100) -> dict[str, str]:
    return {"ratelimit-limit": f"{limit};w=21600", "ratelimit-remaining": f"{remaining};w=21600"}


@pytest.mark.parametrize(
    ("reserved_percent", "limit", "left"),
    [(10, 100, 10), (0, 100, 0), (100, 100, 100), (10, 5, 1), (50, 200, 100)],
)
def test_a_quota_keeps_its_reserve_for_others_and_closes_only_pulls(
    reserved_percent: int, limit: int, left: int
) -> None:
    def after(remaining: int) -> Budget:
        return Budget(600, reserved_percent).answered(5.0, quota(remaining, limit))

    assert after(left + 1).opens_at(pull=True) < 5.0
    assert after(left).opens_at(pull=True) == 21605.0
    assert after(left).opens_at(pull=False) < 5.0


@settings(deadline=None)
@given(st.integers(0, 5), st.integers(-2, 10), st.lists(st.sampled_from([None, 0, 1, 2]), max_size=60))
def test_pulls_at_the_same_time_never_take_from_the_reserve(
    reserved: int, more: int, steps: list[int | None]
) -> None:
    # A registry that counts, and answers pulls that are under way in any order; HEADs tell the truth.
    left = max(reserved + more, 0)
    start, answers = left, list[int]()
    budget = Budget(600, reserved).answered(0.0, quota(left))
    for step in steps:
        if step is not None and answers:
            said = answers.pop(step % len(answers))
            budget = budget.pull_ended().answered(0.0, quota(said), pull=True)
        elif budget.opens_at(pull=True) <= 0.0:
            budget, left = budget.pull_began(), left - 1
            answers.append(left)
    assert left >= min(start, reserved)
    for said in answers:
        budget = budget.pull_ended().answered(0.0, quota(said), pull=True)
    # And no pull is lost that may be taken, nor one that is granted anew.
    assert (budget.opens_at(pull=True) <= 0.0) == (left > reserved)
    assert budget.answered(0.0, quota(100)).opens_at(pull=True) <= 0.0


def test_when_the_window_is_over_a_pull_tells_the_new_quota() -> None:
    budget = Budget(600, 10).answered(0.0, quota(10))
    assert budget.opens_at(pull=True) == 21600.0
    again = budget.pull_began().pull_ended().answered(21600.0, quota(99), pull=True)
    assert again.opens_at(pull=True) < 21600.0


def test_an_answer_without_a_quota_keeps_what_was_known() -> None:
    headers = {"ratelimit-limit": "100;w=21600", "ratelimit-remaining": "0;w=21600"}
    assert Budget(600).answered(5.0, headers).answered(6.0, {}).opens_at(pull=True) == 21605.0


@pytest.mark.parametrize(
    ("limit", "remaining"),
    [("", ""), ("100", "5"), ("x;w=1", "5;w=1"), ("-1;w=60", "0;w=60"), ("1;w=60", "")],
)
def test_a_quota_that_cannot_be_read_is_none(limit: str, remaining: str) -> None:
    budget = Budget(600).answered(5.0, {"ratelimit-limit": limit, "ratelimit-remaining": remaining})
    assert budget.quota is None


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "60"}, 60),
        ({"retry-after": " 0 "}, 0),
        ({"retry-after": "99999999999999999999"}, CLOSED_SECONDS_MAX),
        ({"retry-after": "-5"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "Sat, 21 Nov 2026 05:01:00 GMT", "date": "Sat, 21 Nov 2026 05:00:00 GMT"}, 60),
        ({"retry-after": "Sat, 21 Nov 2026 04:00:00 GMT", "date": "Sat, 21 Nov 2026 05:00:00 GMT"}, 0),
        ({"retry-after": "Sat, 21 Nov 2026 05:01:00 GMT"}, None),
        ({"retry-after": "Sat, 21 Nov 2026 05:01:00 -0000", "date": "Sat, 21 Nov 2026 05:00:00 GMT"}, None),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date_by_the_servers_clock(
    headers: dict[str, str], seconds: float | None
) -> None:
    assert retry_after_seconds(headers) == seconds
