"""The verdict: is this tag continuously built? Pure.

The measure is the rebuild lag: the time from a move of the base to the tag's own next move. Where the base is
not known, the gaps between the moves have to do. "Unknown" is a verdict, with the reason and a date.
"""

import statistics
from bisect import bisect_right
from itertools import pairwise

import msgspec

from imagechain.refs import parse_reference
from imagechain.vetting.clocks import tell_age
from imagechain.vetting.history import History, Run
from imagechain.vetting.values import DAY_SECONDS, Age, Judgement, Verdict

#: A tag that has not moved for so long is not only late.
FROZEN_SECONDS = 365 * DAY_SECONDS
#: Gaps this near to their median are those of a schedule.
_REGULAR_SHARE = 0.25
_REGULAR_GAPS_MIN = 3


class Limits(msgspec.Struct, frozen=True, kw_only=True):
    """From where on an image is late."""

    #: Of an image.
    age_max_seconds: float
    #: After a move of its base.
    rebuild_lag_max_seconds: float
    #: A tag must have been watched for so long.
    observed_min_seconds: float


class _Facts(msgspec.Struct, frozen=True):
    """What the history shows of one tag."""

    runs: list[Run]
    moves: list[float]
    lags: tuple[float, ...]
    base: str
    base_moved_at: float | None
    age: Age
    now: float

    @property
    def observed_seconds(self) -> float:
        return self.now - self.runs[0].first.seen_at

    @property
    def gaps(self) -> list[float]:
        """Times between moves; the last one is still open."""
        return [
            later - earlier for earlier, later in zip(self.moves, [*self.moves[1:], self.now], strict=True)
        ]


def judge(history: History, ref: str, platform: str, *, limits: Limits, now: float) -> Verdict:
    """Judge how a tag comes to be.

    Args:
        history: with at least one look at the tag.
        ref: the reference, normalised.
        platform: which of its images.
        limits: from where on it is late.
        now: the present time.
    """
    runs = history.runs(ref, platform)
    base = runs[-1].last.base
    lags, base_moved_at = _follow(history, runs, base, platform)
    facts = _Facts(
        runs=runs,
        moves=[run.first.seen_at for run in runs[1:]],
        lags=lags,
        base=base,
        base_moved_at=base_moved_at,
        age=tell_age(runs, now),
        now=now,
    )
    judgement, evidence = _judge(facts, parse_reference(ref).digest is not None, limits)
    return Verdict(
        judgement=judgement,
        evidence=(evidence, *_more_evidence(facts)),
        age=facts.age,
        observed_since=runs[0].first.seen_at,
        rebuild_lags=lags,
        base_moved_at=base_moved_at,
    )


def _judge(facts: _Facts, is_pinned: bool, limits: Limits) -> tuple[Judgement, str]:
    """Give the verdict, and the sentence that decided it."""
    if is_pinned:
        return "frozen", "it is named by its digest, which never moves"
    if late := _judge_lateness(facts, limits):
        return late
    if facts.observed_seconds < limits.observed_min_seconds:
        needed = limits.observed_min_seconds / DAY_SECONDS
        since = facts.observed_seconds / DAY_SECONDS
        return (
            "unknown",
            f"it has been watched for {since:.0f} days only, of the {needed:.0f} that are needed",
        )
    if facts.lags:
        slowest = max(facts.lags)
        if slowest <= limits.rebuild_lag_max_seconds:
            return "continuous", f"it followed each move of its base within {_days(slowest)}"
    if not facts.moves:
        return "unknown", f"it has not moved in the {_days(facts.observed_seconds)} since it is watched"
    return _judge_gaps(facts, limits)


def _judge_lateness(facts: _Facts, limits: Limits) -> tuple[Judgement, str] | None:
    """Tell whether it is proven that the tag is left behind; an unproven age speaks for nothing."""
    age = facts.age
    if age.is_proven and age.seconds > limits.age_max_seconds:
        how = f"it has been the same for {_days(age.seconds)} (by {age.clock or 'our own looks'})"
        return ("frozen" if age.seconds > FROZEN_SECONDS else "stale"), how
    waiting = facts.now - facts.base_moved_at if facts.base_moved_at is not None else 0.0
    if waiting > limits.rebuild_lag_max_seconds:
        return "stale", f"its base {facts.base} moved {_days(waiting)} ago, and it did not follow"
    return None


def _judge_gaps(facts: _Facts, limits: Limits) -> tuple[Judgement, str]:
    """Judge by the times between moves, where the base says nothing, or was followed late."""
    gaps = facts.gaps
    longest = max(gaps)
    versions = [run.last.version for run in facts.runs]
    if all(versions) and all(old != new for old, new in pairwise(versions)):
        return "on-release", f"each of its {len(facts.moves)} moves came with another version"
    if longest > limits.age_max_seconds:
        return "on-release", f"between its moves lay up to {_days(longest)}"
    closed = gaps[:-1]
    if len(closed) >= _REGULAR_GAPS_MIN and _are_regular(closed):
        return "periodic", f"it moves every {_days(statistics.median(closed))}"
    if facts.lags:
        return (
            "periodic",
            f"it moves often enough, but followed its base after up to {_days(max(facts.lags))}",
        )
    if not closed:
        return (
            "unknown",
            f"it has moved once in {_days(facts.observed_seconds)}; a second move will tell more",
        )
    return "continuous", f"it moved {len(facts.moves)} times, never more than {_days(longest)} apart"


def _are_regular(gaps: list[float]) -> bool:
    middle = statistics.median(gaps)
    return all(abs(gap - middle) <= _REGULAR_SHARE * middle for gap in gaps)


def _follow(
    history: History, runs: list[Run], base: str, platform: str
) -> tuple[tuple[float, ...], float | None]:
    """Measure the rebuild lags; a move of the base that was not followed yet is open since its first one.

    The base may be looked at less often than the tag: it moved at some time after the last look at its old
    digest, and a move of the tag from then on may have followed it.
    """
    if not base:
        return (), None
    first_seen_at = runs[0].first.seen_at
    moves = [run.first.seen_at for run in runs[1:]]
    base_runs = history.runs(base, platform)
    lags: list[float] = []
    open_since: float | None = None
    for before, after in pairwise(base_runs):
        moved_at = after.first.seen_at
        if moved_at < first_seen_at:
            continue
        following = bisect_right(moves, before.last.seen_at)
        if following < len(moves):
            lags.append(max(moves[following] - moved_at, 0.0))
        elif open_since is None:
            open_since = moved_at
    if base_runs and runs[-1].last.base_digest == base_runs[-1].digest:
        open_since = None
    return tuple(lags), open_since


def _more_evidence(facts: _Facts) -> list[str]:
    lines = []
    age = facts.age
    if age.clock is None:
        lines.append(f"no clock can be believed; it is at least {_days(age.seconds)} old")
    else:
        lines.append(f"it is {_days(age.seconds)} old by {age.clock}")
    lines += [
        f"{reading.clock} is not believed: {reading.rejected}" for reading in age.readings if reading.rejected
    ]
    lines += [f"conflict: {conflict}" for conflict in age.conflicts]
    if facts.base:
        lines.append(f"it is built from {facts.base}")
    return lines


def _days(seconds: float) -> str:
    """Write a span as people say it."""
    if seconds < 2 * DAY_SECONDS:
        return f"{seconds / 3_600:.0f} hours"
    return f"{seconds / DAY_SECONDS:.0f} days"
