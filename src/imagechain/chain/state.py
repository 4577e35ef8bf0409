"""What is known of one project, and what follows from it alone. No graph walks, no decisions.

The facts change only through `Chain.apply`. `stale`, `settled` and `waits` are derived from them and kept,
so that an observation need not look at the whole graph.
"""

import msgspec

#: Ended builds that are remembered, so that late and doubled messages about them are known as such.
ENDED_BUILDS_MAX = 32


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What the present image of a project was built from."""

    at: float
    #: Versions by the place of the input in `Graph.inputs`; None: the record does not name the input.
    versions: tuple[str | None, ...]
    #: Whether there is a record at all; without one the project is stale.
    known: bool = True
    #: Taken over at first sight: an input that could not be read yet is taken over when it is.
    adopted: bool = False
    #: Inputs (by number) that were proven at first sight to be older than the present ones.
    proven_stale: frozenset[int] = frozenset()


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A build that runs."""

    build: str
    at: float
    #: Versions it is built from, in the order of `Graph.inputs`.
    versions: tuple[str | None, ...]
    #: Present versions when it was seen to start: if they are the same at its end, it was built for nothing newer.
    seen: tuple[str | None, ...]
    cause: str
    url: str


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A project failed, and is stale still."""

    #: When it began to fail.
    since: float
    #: When it failed last.
    at: float
    #: Failed builds of the present inputs; after a person's retry, or when inputs moved, 0.
    attempts: int
    #: The last build was cancelled: it is not tried again by itself.
    cancelled: bool
    message: str
    #: Children go on without it, until it builds again or its inputs move.
    given_up: bool = False


class LastBuild(msgspec.Struct, frozen=True, kw_only=True):
    """The build of a project that started or ended last, for people to look at."""

    id: str
    url: str
    status: str
    cause: str
    started_at: float | None
    finished_at: float | None


class Pause(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing is started for a project, or for all, until a person says so."""

    at: float
    subtree: bool
    by: str
    reason: str


class ProjectState:
    """The facts about one project, and what was derived from them."""

    __slots__ = (
        "asked_at",
        "asked_by",
        "ended",
        "failure",
        "has_missing_image",
        "inactive",
        "is_asked",
        "last_build",
        "pauses",
        "record",
        "runs",
        "settled",
        "stale",
        "waits",
    )

    def __init__(self) -> None:
        self.record: Record | None = None
        self.runs: dict[str, Run] = {}
        #: Ids of builds that ended, the latest last.
        self.ended: tuple[str, ...] = ()
        self.failure: Failure | None = None
        self.last_build: LastBuild | None = None
        #: When a person asked last for a build, and whether that was not answered yet.
        self.asked_at: float | None = None
        self.asked_by = ""
        self.is_asked = False
        self.inactive = False
        #: How many pauses hold this project: its own, and those of subtrees it is in.
        self.pauses = 0
        # Derived.
        self.has_missing_image = False
        self.stale = False
        self.settled = False
        #: How many parents are not settled.
        self.waits = 0

    @property
    def never_built(self) -> bool:
        """Whether it is known that the project has no image yet: one was looked for, or all builds failed."""
        return self.record is None and (self.has_missing_image or bool(self.ended))

    @property
    def observed(self) -> bool:
        """Whether anything is known that tells fresh from stale."""
        return self.record is not None or self.stale or self.inactive

    @property
    def stands_still(self) -> bool:
        """Whether the project itself is at rest, whatever its parents are."""
        if self.inactive:
            return True
        given_up = self.failure is not None and self.failure.given_up
        return self.observed and not self.runs and (not self.stale or given_up)
