"""Sum up a run: what was fresh, and what is blocked by what. Pure."""

from collections.abc import Collection, Iterable, Mapping

from imagechain.chain import SourceStatus
from imagechain.engines.local.values import Blocked, Built, Failed, UpResult


def summarise(
    statuses: Iterable[SourceStatus],
    *,
    built: Mapping[str, Built],
    failed: Mapping[str, Failed],
    interrupted: Collection[str],
    is_interrupted: bool,
    pushed: Iterable[str],
) -> UpResult:
    """Sort the projects of a chain by how they ended."""
    told = built.keys() | failed.keys() | set(interrupted)
    left = [found for found in statuses if found.kind == "project" and found.id not in told]
    at_rest = [found for found in left if found.state in ("fresh", "inactive")]
    in_cycle = tuple(found.id for found in left if found.state == "cycle")
    # With --fail-fast, and after an interrupt, a project may wait though nothing above it failed.
    stoppers = (*failed, *interrupted)
    return UpResult(
        built=tuple(built.values()),
        fresh=tuple(found.id for found in at_rest),
        failed=tuple(failed.values()),
        blocked=tuple(
            Blocked(
                id=found.id,
                by=found.blocked_by or (in_cycle if found.state == "cycle" else stoppers),
            )
            for found in left
            if found not in at_rest
        ),
        interrupted=tuple(interrupted),
        is_interrupted=is_interrupted,
        pushed=tuple(pushed),
    )
