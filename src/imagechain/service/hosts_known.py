"""What the hosts run, beside what their images are now. Pure.

Of an image of the chain the service itself knows what it is now. Of any other one the host has looked at the
registry, and is believed, as long as it is heard of. What a silent host runs is not known.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

import msgspec

from imagechain.hosts.report import HostReport, ReportedContainer
from imagechain.service.fix_ways import FixWay, Place, fix_ways, with_kept
from imagechain.service.known import Known
from imagechain.service.platforms import is_part_of
from imagechain.store.values import HostRow, WayRow

#: Hosts say what they run twice an hour; one that was not heard of for so long is silent.
SILENT_SECONDS = 86_400.0

#: `present`: it runs what its image is now; `behind`: something older.
Standing = Literal["present", "behind", "unknown", "stopped"]


class HeardReport(msgspec.Struct, frozen=True, kw_only=True):
    """What a host said last."""

    host: str
    heard_at: float
    report: HostReport


class HostSeen(msgspec.Struct, frozen=True, kw_only=True):
    """One host."""

    host: str
    heard_at: float
    #: Not heard of for a day: what it runs is not known.
    is_silent: bool
    #: Containers by `Standing`.
    present: int
    behind: int
    unknown: int
    stopped: int


class ContainerSeen(msgspec.Struct, frozen=True, kw_only=True):
    """One container."""

    host: str
    user: str
    name: str
    standing: Standing
    #: All that its image is known by.
    digests: tuple[str, ...]
    #: When it was made, by the service's clock.
    since: float | None
    #: What `hosts status` said of it there.
    state: str
    waits_for: str


class ImageSeen(msgspec.Struct, frozen=True, kw_only=True):
    """One image, and where it runs."""

    image: str
    #: The source that publishes it; None: the chain does not know it.
    source: str | None
    #: What it is now; None: not known.
    digest: str | None
    containers: tuple[ContainerSeen, ...]


class HostsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What `/api/v1/hosts` answers."""

    hosts: tuple[HostSeen, ...]
    images: tuple[ImageSeen, ...]
    #: Unfinished ones first, then the latest.
    ways: tuple[FixWay, ...]


def read_reports(rows: Iterable[HostRow]) -> list[HeardReport]:
    """Read what was kept of the hosts."""
    return [
        HeardReport(host=row.name, heard_at=row.heard_at, report=_decoder.decode(row.body)) for row in rows
    ]


_decoder = msgspec.json.Decoder(HostReport)


def read_ways(rows: Iterable[WayRow]) -> list[FixWay]:
    """Read what was kept of the ways of fixes."""
    return [_way_decoder.decode(row.body) for row in rows]


_way_decoder = msgspec.json.Decoder(FixWay)


def ways_to_keep(ways: Iterable[FixWay], kept: Iterable[FixWay]) -> list[WayRow]:
    """Tell what is new of ways, and worth keeping: their first container, and their end."""
    known = {(way.source, way.moved_at, way.first_at, way.is_done) for way in kept}
    return [
        WayRow(
            source=way.source,
            moved_at=way.moved_at,
            is_done=way.is_done,
            body=msgspec.json.encode(way).decode(),
        )
        for way in ways
        if (way.is_done or way.first_at is not None)
        and (way.source, way.moved_at, way.first_at, way.is_done) not in known
    ]


def hosts_known(
    known: Known, reports: Sequence[HeardReport], kept: Iterable[FixWay], now: float
) -> HostsAnswer:
    """Tell what runs where, and how far the latest fixes have come.

    Args:
        known: what the service knows of the chain.
        reports: what the hosts said last.
        kept: how far fixes had come before.
        now: the service's time.
    """
    hosts: list[HostSeen] = []
    by_image: dict[str, list[ContainerSeen]] = {}
    places: list[Place] = []
    for heard in reports:
        is_silent = now - heard.heard_at > SILENT_SECONDS
        counts: dict[Standing, int] = {"present": 0, "behind": 0, "unknown": 0, "stopped": 0}
        for container in heard.report.containers:
            standing = _standing(known, container, is_silent=is_silent)
            counts[standing] += 1
            seen = _seen(heard, container, standing)
            by_image.setdefault(container.image, []).append(seen)
            if standing != "stopped":
                places.append(_place(container.image, seen))
        hosts.append(HostSeen(host=heard.host, heard_at=heard.heard_at, is_silent=is_silent, **counts))
    return HostsAnswer(
        hosts=tuple(hosts),
        images=tuple(_image(known, image, by_image[image]) for image in sorted(by_image)),
        ways=with_kept(fix_ways(known.chain, places), kept),
    )


def _standing(known: Known, container: ReportedContainer, *, is_silent: bool) -> Standing:
    if is_silent:
        return "unknown"
    if not container.is_running:
        return "stopped"
    key = known.chain.graph.input_number.get(container.image)
    version = None if key is None else known.chain.facts.versions[key]
    digest = known.digests.get(container.image)
    if version is None and digest is None:
        return _said(container)
    # Of several platforms, one is the host's.
    has_content = version is not None and is_part_of(container.content, version)
    if has_content or digest in container.digests:
        return "present"
    is_content_known = version is not None and bool(container.content)
    is_digest_known = digest is not None and bool(container.digests)
    return "behind" if is_content_known or is_digest_known else "unknown"


def _said(container: ReportedContainer) -> Standing:
    """Take the host's word for an image that the chain does not know."""
    if container.is_outdated is None:
        return "unknown"
    return "behind" if container.is_outdated else "present"


def _seen(heard: HeardReport, container: ReportedContainer, standing: Standing) -> ContainerSeen:
    age = container.made_seconds_ago
    return ContainerSeen(
        host=heard.host,
        user=container.user,
        name=container.name,
        standing=standing,
        digests=container.digests,
        since=None if age is None else heard.heard_at - age,
        state=container.state,
        waits_for=container.waits_for,
    )


def _place(image: str, seen: ContainerSeen) -> Place:
    return Place(
        id=f"{seen.host}/{seen.user}/{seen.name}",
        image=image,
        is_present=None if seen.standing == "unknown" else seen.standing == "present",
        since=seen.since,
    )


def _image(known: Known, image: str, containers: Sequence[ContainerSeen]) -> ImageSeen:
    graph = known.chain.graph
    key = graph.input_number.get(image)
    publisher = -1 if key is None else graph.publisher[key]
    return ImageSeen(
        image=image,
        source=graph.ids[publisher] if publisher >= 0 else None,
        digest=known.digests.get(image),
        containers=tuple(containers),
    )
