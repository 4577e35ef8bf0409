"""What the store keeps, as frozen values; times are Unix times in seconds.

None of it is a secret, and none of it is the truth: GitLab and the registries are. A store that was lost is
filled again from them.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec

from imagechain.chain import Observation

#: For how long hooks of a project are counted together, and a `burst` waits until it is followed up.
BURST_SECONDS = 10.0
#: Of GitLab's hooks, and of people. A `merge` is a merge request that was merged; a `burst` stands for all
#: hooks of a project that were too many.
HintKind = Literal[
    "pipeline", "push", "merge", "merge_request", "note", "deployment", "burst", "other",
    "rebuild", "retry", "pause", "resume", "reconcile",
]  # fmt: skip


class Hint(msgspec.Struct, frozen=True, kw_only=True):
    """A message that something may have changed, or what a person asks for. Stored before it is answered."""

    kind: HintKind
    #: Of GitLab's hooks: the project, and what it speaks of there, to be looked up.
    project_id: int | None = None
    pipeline_id: int | None = None
    #: GitLab's `iid`.
    merge_request: int | None = None
    note_id: int | None = None
    deployment_id: int | None = None
    #: Path of the group whose hook it came by; empty: it was the project's own.
    group: str = ""
    #: Of people: the source (None: all), who asks, and why.
    source: str | None = None
    by: str = ""
    reason: str = ""
    #: Of `rebuild`: all that is built from it too. Of `pause`: the same.
    downstream: bool = False


class StoredHint(msgspec.Struct, frozen=True):
    """A hint in the inbox; ids rise in the order of arrival."""

    id: int
    received_at: float
    hint: Hint


class Intent(msgspec.Struct, frozen=True, kw_only=True):
    """A build that was decided. It is stored before GitLab is asked, so that no crash can double it."""

    id: str
    #: As it was called when that was decided; who renames the project does not change its number.
    source: str
    project_id: int
    #: When it was decided.
    at: float
    inputs: Mapping[str, str]
    cause: str
    #: The cascade that it belongs to: the id of its first intent.
    cascade: str
    #: The largest pipeline id of the source that was known then: a larger one may be this build.
    after_pipeline: int


class BuildRow(msgspec.Struct, frozen=True, kw_only=True):
    """One build, for people to look at: `/api/v1/builds`."""

    id: str
    source: str
    url: str = ""
    status: str
    cause: str = ""
    #: None: not started by imagechain.
    cascade: str | None = None
    started_at: float | None = None
    finished_at: float | None = None


class CascadeRow(msgspec.Struct, frozen=True, kw_only=True):
    """The builds that followed from one change: `/api/v1/cascades`."""

    id: str
    cause: str
    started_at: float
    #: None while one of its builds runs.
    finished_at: float | None
    builds: tuple[BuildRow, ...]


class ErrandRow(msgspec.Struct, frozen=True, kw_only=True):
    """Something that a bot does, as it stands; what it is, the service knows."""

    id: str
    #: When it was begun.
    at: float
    is_done: bool
    body: str


class HostRow(msgspec.Struct, frozen=True, kw_only=True):
    """What a host said last; what that means, the service knows."""

    name: str
    heard_at: float
    body: str


class WayRow(msgspec.Struct, frozen=True, kw_only=True):
    """How far a move of a source has come on the hosts; what that means, the service knows."""

    source: str
    moved_at: float
    #: Every container had it once; nothing more is learned of it then.
    is_done: bool
    body: str


class Memory(msgspec.Struct, frozen=True, kw_only=True):
    """What the service knew when it last wrote: a snapshot, and all observations since."""

    #: The encoded snapshot; empty: none was written yet.
    snapshot: bytes
    observations: tuple[Observation, ...]
    #: Intents of which it is not known whether they were carried out.
    intents: tuple[Intent, ...]
    #: Times up to which something was read, by name.
    watermarks: Mapping[str, float]
    #: Those that go on, and of those that are done the latest.
    errands: tuple[ErrandRow, ...] = ()


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """All that one step changes, written in one transaction or not at all."""

    #: Added to the log, in this order.
    observations: tuple[Observation, ...] = ()
    #: Takes the place of the log so far: `observations` come after it.
    snapshot: bytes | None = None
    #: Hints that were followed up, by id.
    hints_done: tuple[int, ...] = ()
    intents_opened: tuple[Intent, ...] = ()
    #: Intents that were carried out or given up, by id.
    intents_closed: tuple[str, ...] = ()
    #: Inserted, or replaced where the source has a build of that id.
    builds: tuple[BuildRow, ...] = ()
    watermarks: Mapping[str, float] = {}
    #: New names of sources by the old ones: their history goes with them.
    renamed: Mapping[str, str] = {}
    #: Inserted, or replaced.
    errands: tuple[ErrandRow, ...] = ()


class Lease(msgspec.Struct, frozen=True):
    """The right to act, until a time. Whoever writes shows it."""

    owner: str
    #: Rises each time the lease goes to another owner.
    number: int
    expires_at: float
