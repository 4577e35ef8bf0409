"""What `up` is asked, tells while it works, and returns. Fields of the result are named as in its JSON."""

from typing import Protocol

import msgspec

from imagechain.chain.values import BUILD_KINDS, DependencyKind, Reason


class Options(msgspec.Struct, frozen=True, kw_only=True):
    """What a person asks of one run."""

    #: Builds at once.
    jobs: int
    #: Ids of projects, or references that they publish: these and what they are built from; none: all.
    only: tuple[str, ...] = ()
    #: Start nothing more after the first failure.
    fail_fast: bool = False
    #: Push what the chain publishes to its registries.
    push: bool = False
    #: Kinds of dependencies that make a project stale.
    kinds: frozenset[DependencyKind] = BUILD_KINDS


class Built(msgspec.Struct, frozen=True, kw_only=True):
    """A project that was built."""

    id: str
    #: The first reference that it publishes.
    image: str
    seconds: float
    reasons: tuple[Reason, ...]
    #: Whether the content differs from that of the image before: if not, nothing below is rebuilt for it.
    content_changed: bool


class Failed(msgspec.Struct, frozen=True, kw_only=True):
    """A project whose build failed, or could not begin."""

    id: str
    #: The log; None where nothing was run.
    log: str | None
    message: str
    log_tail: tuple[str, ...] = ()


class Blocked(msgspec.Struct, frozen=True, kw_only=True):
    """A project that waits for others to be mended."""

    id: str
    by: tuple[str, ...]


class UpResult(msgspec.Struct, frozen=True, kw_only=True):
    """What one run did and found."""

    built: tuple[Built, ...] = ()
    fresh: tuple[str, ...] = ()
    failed: tuple[Failed, ...] = ()
    blocked: tuple[Blocked, ...] = ()
    #: Builds that were stopped because a person, or the system, asked.
    interrupted: tuple[str, ...] = ()
    is_interrupted: bool = False
    #: References that were pushed.
    pushed: tuple[str, ...] = ()


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """Another imagechain works in this folder; this one waits for it."""

    pid: int | None


class Noted(msgspec.Struct, frozen=True, kw_only=True):
    """A line for people."""

    text: str


class Planned(msgspec.Struct, frozen=True, kw_only=True):
    """What is stale, and what may follow; fewer are built where content does not change."""

    projects: tuple[str, ...]


class Pulling(msgspec.Struct, frozen=True, kw_only=True):
    """An external image is fetched."""

    image: str


class Began(msgspec.Struct, frozen=True, kw_only=True):
    """A build began."""

    id: str
    image: str
    reasons: tuple[Reason, ...]
    log: str


class Output(msgspec.Struct, frozen=True, kw_only=True):
    """A build said something."""

    id: str
    chunk: bytes


Event = Waiting | Noted | Planned | Pulling | Began | Output | Built | Failed


class Reporter(Protocol):
    """Where progress goes: a progress bar, plain lines, nowhere."""

    def __call__(self, event: Event, /) -> None:
        """Take one event; must not block."""
        ...
