"""How old an image is: clocks, ranked by how hard they are to get wrong. Pure.

The time in an image's config is the weakest: official images had the time of their git commit there until
2025-10-27, others 1970 or 1980. Every clock is shown; one that cannot be right is shown with the reason.
Ranks and traps: docker-library/meta-scripts e583a5f, distroless #112, buildpacks/pack #931.
"""

from collections.abc import Mapping

from imagechain.vetting.history import Run
from imagechain.vetting.values import DAY_SECONDS, Age, Reading

#: Our own: the digest was not there at the look before, and then it was.
FIRST_SEEN = "first-seen"
#: The end of the build, by the provenance beside the image.
PROVENANCE = "provenance-finished"
#: Clocks by trust: those of the registry first, then what the publisher says.
RANKED = (
    FIRST_SEEN,
    "last-modified",
    "tag-last-pushed",
    "annotation-created",
    PROVENANCE,
    "history-snapshot",
    "config-created",
)
#: No publisher can set these: only they prove that an image is old.
PROVEN = frozenset({FIRST_SEEN, "last-modified", "tag-last-pushed"})
#: Fixed times of reproducible builds: 1970-01-01, 1980-01-01 and the day after, in any time zone.
_EPOCH_MAX = 315_705_600.0
#: Clocks of different machines.
_SKEW_SECONDS_MAX = 3_600.0
#: Clocks further apart than that contradict each other.
_APART_SECONDS = 7 * DAY_SECONDS


def tell_age(runs: list[Run], now: float) -> Age:
    """Tell how old the present digest of a tag is.

    Args:
        runs: what the tag named; the last is the present one, and there is at least one.
        now: the present time.
    """
    present = runs[-1]
    clocks = dict(present.clocks)
    if len(runs) > 1:
        # Somewhere between the two looks; the later one can be proved.
        clocks[FIRST_SEEN] = present.first.seen_at
    readings = tuple(_read(name, clocks[name], present.first.seen_at, now) for name in _order(clocks))
    believed = [reading for reading in readings if not reading.rejected]
    if not believed:
        return Age(clock=None, seconds=now - present.first.seen_at, is_proven=True, readings=readings)
    best = believed[0]
    conflicts = tuple(
        f"{best.clock} and {other.clock} are {abs(best.at - other.at) / DAY_SECONDS:.0f} days apart"
        for other in believed[1:]
        if abs(best.at - other.at) > _APART_SECONDS
    )
    return Age(
        clock=best.clock,
        seconds=max(now - best.at, 0.0),
        is_proven=best.clock in PROVEN,
        readings=readings,
        conflicts=conflicts,
    )


def is_outranked(name: str, clocks: Mapping[str, float], now: float) -> bool:
    """Tell whether one of the clocks can be right, and is trusted more than one of those that are ranked."""
    better = (clock for clock in RANKED[: RANKED.index(name)] if clock in clocks)
    return any(not _read(clock, clocks[clock], now, now).rejected for clock in better)


def _order(clocks: Mapping[str, float]) -> list[str]:
    """Order clocks by their rank; those that nobody knows come last."""
    rank = {name: number for number, name in enumerate(RANKED)}
    return sorted(clocks, key=lambda name: (rank.get(name, len(rank)), name))


def _read(name: str, at: float, first_seen_at: float, now: float) -> Reading:
    rejected = ""
    if name not in RANKED:
        rejected = f"an unknown clock; known are {', '.join(RANKED)}"
    elif at <= _EPOCH_MAX:
        rejected = "a fixed time, as reproducible builds set it"
    elif at > now + _SKEW_SECONDS_MAX:
        rejected = "in the future"
    elif at > first_seen_at + _SKEW_SECONDS_MAX:
        # Somebody pushed the same digest again, or changed only what is around it.
        rejected = "later than the first look at this digest: pushed again without a change"
    return Reading(clock=name, at=at, rejected=rejected)
