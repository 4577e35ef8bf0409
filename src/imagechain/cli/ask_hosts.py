"""`imagechain status --hosts`: how far fixes have come, to the last container."""

import time
from collections.abc import Iterable
from datetime import UTC, datetime

from imagechain.cli.output import Format, print_json, print_lines, print_table
from imagechain.cli.remote import RemoteService
from imagechain.service.fix_ways import FixWay
from imagechain.service.hosts_known import HostsAnswer, HostSeen

_UNITS = ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s"))
#: Containers that one row names; JSON has more of them.
_NAMES_MAX = 3


def print_hosts(service: RemoteService, format: Format) -> None:
    """Ask what the hosts run, and print it."""
    answer = service.ask("hosts", HostsAnswer)
    if format == "json":
        print_json(answer)
        return
    if not answer.hosts:
        print_lines(["No host has reported yet (hosts.report_to)."])
        return
    now = time.time()
    print_table(
        ("HOST", "HEARD", "PRESENT", "BEHIND", "UNKNOWN", "STOPPED"),
        [_host_row(host, now) for host in answer.hosts],
    )
    print_lines([""])
    print_lines(_behind(answer))
    if answer.ways:
        print_table(
            ("MOVED", "WHEN", "IMAGES", "CONTAINERS", "FIRST", "LAST", "MISSING"),
            [_way_row(way) for way in answer.ways],
        )
    else:
        print_lines(["No image that containers are built from has moved since it was first seen."])


def _host_row(host: HostSeen, now: float) -> tuple[str, ...]:
    heard = f"{span(now - host.heard_at)} ago"
    counts = (host.present, host.behind, host.unknown, host.stopped)
    return (host.host, f"last heard {heard}" if host.is_silent else heard, *map(str, counts))


def _behind(answer: HostsAnswer) -> list[str]:
    lines = [
        f"{seen.host}/{seen.user}/{seen.name} does not run the present {image.image}"
        + (f": {seen.waits_for}" if seen.waits_for else f" (there: {seen.state})")
        for image in answer.images
        for seen in image.containers
        if seen.standing == "behind"
    ]
    return [*lines, ""] if lines else []


def _way_row(way: FixWay) -> tuple[str, ...]:
    built = sum(step.has == "yes" for step in way.images)
    waiting = [step.source for step in way.images if step.has != "yes"]
    without = [*way.missing, *(f"{name} (not known)" for name in way.unknown)]
    missing = [*(f"{source} (not built)" for source in waiting), *without]
    count = len(waiting) + way.missing_count + way.unknown_count
    return (
        way.source,
        datetime.fromtimestamp(way.moved_at, UTC).strftime("%Y-%m-%d %H:%M UTC"),
        f"{built}/{len(way.images)}",
        f"{way.containers_done}/{way.containers}",
        _after(way.first_at, way),
        _after(way.last_at, way) if way.is_done else "",
        _named(missing, count),
    )


def _after(at: float | None, way: FixWay) -> str:
    return "" if at is None else f"after {span(at - way.moved_at)}"


def _named(names: Iterable[str], count: int) -> str:
    named = list(names)[:_NAMES_MAX]
    more = [f"{count - len(named)} more"] if count > len(named) else []
    return ", ".join([*named, *more])


def span(seconds: float) -> str:
    """Write a span of time in its two largest units: `3 h 20 min`."""
    left = max(0, round(seconds))
    words: list[str] = []
    for unit_seconds, unit in _UNITS:
        count, left = divmod(left, unit_seconds)
        if count or words:
            words.append(f"{count} {unit}" if count else "")
        if len(words) == 2:
            break
    return " ".join(filter(None, words)) or "0 s"
