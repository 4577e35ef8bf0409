"""What a host says to the service: which containers there are, and which image each of them runs. Pure.

There is nothing in it that may be a secret: no environment, no command line, no words of a person. Spans of
time are told, not times: the clocks of hosts are not the service's.
"""

from typing import Annotated

import msgspec

from imagechain.hosts.plan import Facts
from imagechain.hosts.run import Result
from imagechain.hosts.values import Container, Verdict, VerdictState
from imagechain.images.docker import Inspected
from imagechain.refs import ReferenceError, content_key, parse_reference

#: A whole report, as JSON.
REPORT_BYTES_MAX = 1024 * 1024
CONTAINERS_MAX = 1_000
#: Digests that an image is known by: one for each index that it was pulled by, and its own.
DIGESTS_MAX = 32
_TEXT_CHARACTERS_MAX = 512
_SECONDS_MAX = 10_000_000_000.0

#: Shown on terminals: no control characters.
_Text = Annotated[str, msgspec.Meta(max_length=_TEXT_CHARACTERS_MAX, pattern=r"\A[^\x00-\x1f\x7f-\x9f]*\Z")]
#: States whose reasons are made of our own words and of digests; those of others tell what to run by hand.
_TOLD_REASONS = frozenset({"waiting", "held", "stopped", "pinned", "excluded"})


class ReportedContainer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One container."""

    user: _Text
    name: _Text
    #: The reference that it was made from, normalised and without a digest where it has a tag.
    image: _Text
    #: All digests that its image is known by, of indexes and of the manifest.
    digests: Annotated[tuple[_Text, ...], msgspec.Meta(max_length=DIGESTS_MAX)] = ()
    #: Content key of its image; empty: not known.
    content: _Text = ""
    is_running: bool
    #: How long ago it was made: a container never changes its image, whenever it is started again.
    made_seconds_ago: Annotated[float, msgspec.Meta(ge=0, le=_SECONDS_MAX)] | None = None
    #: What `hosts status` says of it.
    state: VerdictState
    #: Whether the registry had something newer when the host looked; None: it could not be told.
    is_outdated: bool | None = None
    #: What it waits for, in words; empty: for nothing, or only the host knows.
    waits_for: _Text = ""


class HostReport(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All containers of a host, of the users whose containers it looks after."""

    containers: Annotated[tuple[ReportedContainer, ...], msgspec.Meta(max_length=CONTAINERS_MAX)]


def reported_containers(user: str, result: Result, now: float) -> list[ReportedContainer]:
    """Say what a user's containers run.

    Args:
        user: whose containers.
        result: what was found when they were looked at last.
        now: the host's time (Unix time in seconds).
    """
    return [_reported(user, verdict, result.facts, now) for verdict in result.plan.verdicts]


def _reported(user: str, verdict: Verdict, facts: Facts, now: float) -> ReportedContainer:
    container = verdict.container
    image = facts.images.get(container.image)
    made_at = container.created
    return ReportedContainer(
        user=user,
        name=container.name,
        image=_name(container),
        digests=tuple(sorted(image.digests)[:DIGESTS_MAX]) if image is not None else (),
        content=_content(image.document) if image is not None else "",
        is_running=container.is_running,
        made_seconds_ago=None if made_at is None else min(max(now - made_at.timestamp(), 0.0), _SECONDS_MAX),
        state=verdict.state,
        is_outdated=True if verdict.moved is not None else (False if verdict.state == "current" else None),
        waits_for=verdict.reason[:_TEXT_CHARACTERS_MAX] if verdict.state in _TOLD_REASONS else "",
    )


def _name(container: Container) -> str:
    try:
        return parse_reference(container.image_name).identity
    except ReferenceError:
        return container.image_name


def _content(document: msgspec.Raw) -> str:
    """Give the content key of an image; empty where podman tells too little of it."""
    try:
        return content_key(msgspec.json.decode(document, type=Inspected).image_config())
    except ValueError:
        return ""
