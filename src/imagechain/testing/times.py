"""The ways in which GitLab writes times."""

from datetime import UTC, datetime


def iso(at: float) -> str:
    """Write a time as REST answers do: `2026-05-13T08:00:00.000Z`."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def iso_or_none(at: float | None) -> str | None:
    """Write a time that may not have come yet."""
    return None if at is None else iso(at)


def iso_seconds(at: float) -> str:
    """Write a time without fractions, as GraphQL and the `_iso` fields do: `2026-05-13T08:00:00Z`."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def iso_offset(at: float) -> str:
    """Write a time with its offset, as the commits of a push do: `2026-05-13T08:00:00+00:00`."""
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")


def ruby(at: float | None) -> str | None:
    """Write a time as Ruby does, in most hook payloads: `2026-05-13 08:00:00 UTC`."""
    return None if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def read_time(text: str) -> float:
    """Read a time that a request names; without an offset it is UTC.

    Raises:
        ValueError: it is no time.
    """
    parsed = datetime.fromisoformat(text)
    return (parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)).timestamp()
