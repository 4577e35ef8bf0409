"""What is known of one project, and what follows from it alone. No graph walks, no decisions.

The facts change only through `Chain.apply`. `is_stale`, `is_settled` and `waits` are derived from them and
kept, so that an observation need not look at the whole graph.
"""

import msgspec


class Record(msgspec.Struct, frozen=True, kw_only=True):
    """What the present image of a project was built from."""

    #: When that build ended; 0: nobody knows.
    at: float
    #: The same by the clock of who told it.
    told_at: float | None = None
    #: Versions in the order of `Graph.inputs`; None: the record does not name that input.
    versions: tuple[str | None, ...]
    #: Whether the versions are known at all; where not, the project is stale.
    is_known: bool = True
    #: Taken over at first sight: an input that could not be read yet is taken over when it is.
    is_adopted: bool = False
    #: Inputs (by number) that were proven at first sight to be older than the present ones.
    proven_stale: frozenset[int] = frozenset()


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A build that runs."""

    build: str
    at: float
    #: Versions it is thought to be built from, in the order of `Graph.inputs`.
    versions: tuple[str | None, ...]


class Failure(msgspec.Struct, frozen=True, kw_only=True):
    """A project failed, and is stale still."""

    #: When it began to fail.
    since: float
    #: When it failed last.
    at: float
    #: Failed builds of the present inputs; 0 again when inputs moved, or a person asked.
    attempts: int
    #: The last build was cancelled: it is not tried again by itself.
    is_cancelled: bool = False
    #: Children go on without it, until it builds again or its inputs move.
    is_given_up: bool = False
    message: str

    @property
    def holds_up(self) -> bool:
        """Whether children wait for a project that failed with its present inputs."""
        return not self.is_given_up and (self.attempts > 0 or self.is_cancelled)


class LastBuild(msgspec.Struct, frozen=True, kw_only=True):
    """The build of a project that started or ended last, for people to look at."""

    id: str
    url: str = ""
    status: str
    cause: str = ""
    started_at: float | None = None
    finished_at: float | None = None
    #: The latest time that was told of any build of the project, by the clock of who told it.
    told_at: float | None = None


class Pause(msgspec.Struct, frozen=True, kw_only=True):
    """Nothing is started for a project, for all below it, or for any, until a person says so."""

    at: float
    subtree: bool
    by: str
    reason: str


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """A person asked for a build."""

    at: float
    by: str
    reason: str = ""
    #: A build that started later has succeeded.
    is_answered: bool = False


class ProjectState:
    """The facts about one project, and what was derived from them."""

    __slots__ = (
        "ask",
        "ended",
        "failure",
        "has_lost_image",
        "is_inactive",
        "is_settled",
        "is_stale",
        "last_build",
        "pauses",
        "record",
        "runs",
        "waits",
    )

    def __init__(self) -> None:
        self.record: Record | None = None
        #: Builds that run, by their ids.
        self.runs: dict[str, Run] = {}
        #: Ids of the builds that ended, the latest last.
        self.ended: tuple[str, ...] = ()
        self.failure: Failure | None = None
        self.last_build: LastBuild | None = None
        self.ask: Ask | None = None
        self.is_inactive = False
        #: How many pauses hold this project: its own, and those of subtrees it is in.
        self.pauses = 0
        # Derived.
        self.has_lost_image = False
        self.is_stale = False
        self.is_settled = False
        #: How many parents are not settled.
        self.waits = 0

    @property
    def is_asked(self) -> bool:
        """Whether a person waits for a build."""
        return self.ask is not None and not self.ask.is_answered

    @property
    def is_never_built(self) -> bool:
        """Whether there is known to be no image: one was looked for in vain, or all builds failed."""
        return self.record is None and (self.has_lost_image or bool(self.ended))

    @property
    def is_observed(self) -> bool:
        """Whether anything is known that tells fresh from stale."""
        return self.record is not None or self.is_stale or self.is_inactive

    @property
    def is_at_rest(self) -> bool:
        """Whether the project itself is settled, whatever its parents are."""
        if self.is_inactive:
            return True
        is_given_up = self.failure is not None and self.failure.is_given_up
        return self.is_observed and not self.runs and (not self.is_stale or is_given_up)
