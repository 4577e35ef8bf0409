"""What the list of mirrors means as a whole: which come first, and which contradict each other. Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime

from cronsim import CronSim

from imagechain.config import ConfigError, MirrorSettings
from imagechain.mirror.select import PatternError, compile_pattern
from imagechain.refs import parse_reference

#: How the time is written in the name of a previous digest's tag.
_STAMP = "%Y%m%dT%H%M%SZ"
_STAMP_CHARACTERS = 16
_TAG_CHARACTERS_MAX = 128


def in_order(mirrors: Sequence[MirrorSettings]) -> tuple[tuple[MirrorSettings, ...], ...]:
    """Group the mirrors: what is mirrored from a mirror comes in a later group than that mirror.

    Raises:
        ConfigError: they lead in a circle, two write one repository, or a pattern is none.
    """
    by_target: dict[str, MirrorSettings] = {}
    for mirror in mirrors:
        for pattern in (*mirror.tags, *mirror.deny):
            try:
                compile_pattern(pattern)
            except PatternError as error:
                raise ConfigError(f"[[mirror]] of {mirror.target}: {error}") from error
        target = name_of(mirror.target)
        if target in by_target:
            raise ConfigError(
                f"two [[mirror]] tables write {target}, from {by_target[target].source} and {mirror.source}; "
                "give each a target of its own"
            )
        by_target[target] = mirror
    depth: dict[str, int] = {}
    for target in by_target:
        path = [target]
        while (source := name_of(by_target[path[-1]].source)) in by_target:
            if source in path:
                circle = " -> ".join([*reversed(path[path.index(source) :]), path[-1]])
                raise ConfigError(f"the [[mirror]] tables lead in a circle: {circle}; take one of them away")
            path.append(source)
        depth[target] = len(path)
    levels = sorted(set(depth.values()))
    return tuple(
        tuple(mirror for target, mirror in by_target.items() if depth[target] == level) for level in levels
    )


def name_of(repository: str) -> str:
    """Give the full name of a repository as it stands in the settings."""
    return parse_reference(repository).name


def is_due(schedule: str, synced_at: float | None, now: float) -> bool:
    """Tell whether a time of a schedule has come since a mirror was last looked at.

    Args:
        schedule: a cron expression in UTC; empty: always.
        synced_at: when it was looked at (Unix time); None: never.
        now: Unix time.
    """
    if not schedule or synced_at is None:
        return True
    coming = next(CronSim(schedule, datetime.fromtimestamp(synced_at, UTC)), None)
    return coming is not None and coming.timestamp() <= now


def previous_tag(tag: str, now: float) -> str:
    """Name what a tag named until now; a tag that is too long is cut."""
    stamp = datetime.fromtimestamp(now, UTC).strftime(_STAMP)
    return f"{tag[: _TAG_CHARACTERS_MAX - _STAMP_CHARACTERS - 1]}-{stamp}"


def tag_before(dated: str) -> str | None:
    """Tell which tag a dated one is a previous digest of; None: it is no dated one."""
    tag, _, stamp = dated.rpartition("-")
    try:
        read = datetime.strptime(stamp, _STAMP).replace(tzinfo=UTC)
    except ValueError:
        return None
    return tag if tag and read.strftime(_STAMP) == stamp else None
