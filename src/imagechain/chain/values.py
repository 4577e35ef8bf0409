"""The values that the chain speaks in: sources, dependencies, problems, observations and actions.

Observations are named in the past tense (what a system of record said), actions in the imperative.
Times are Unix times in seconds by one clock, that of who decides; what another clock told is kept beside, as
`told_at`. Versions are opaque texts compared only for equality.
"""

from collections.abc import Mapping
from typing import Literal

import msgspec

SourceKind = Literal["project", "external"]
DependencyKind = Literal[
    "from",
    "copy-from",
    "mount-from",
    "onbuild",
    "syntax",
    "ci-image",
    "ci-service",
    "ci-include",
    "declared",
]
#: Kinds whose parent is an ingredient of the child's image.
BUILD_KINDS: frozenset[DependencyKind] = frozenset({"from", "copy-from", "mount-from", "onbuild", "declared"})


class Source(msgspec.Struct, frozen=True, kw_only=True):
    """Anything that something is built from: a project, or an external image."""

    #: A project's path, or an external image's reference without its digest.
    id: str
    kind: SourceKind
    #: References that the source publishes (`Reference.identity`); of an external image, its own.
    images: tuple[str, ...] = ()
    #: The file that builds it, relative to the top folder; None for external images.
    file: str | None = None


class Dependency(msgspec.Struct, frozen=True, kw_only=True):
    """One edge of the graph: what a child is built from, and where that is written."""

    child: str
    #: Id of a source; None for what is pulled but is no ingredient (`syntax`).
    parent: str | None
    kind: DependencyKind
    #: The file that says so, relative to the top folder of its project.
    file: str
    #: First line of the instruction, from 1.
    line: int
    #: The normalised image reference as resolved, digest included; None for a declared project.
    image: str | None
    #: False where the target of the build does not reach it.
    needed: bool = True

    @property
    def pinned(self) -> bool:
        """Whether the reference has a digest: a pinned dependency never makes its child stale."""
        return self.image is not None and "@" in self.image


class Problem(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """Something that could not be read, or is ambiguous; listed, never fatal."""

    file: str
    #: Line, from 1; None where the whole file is meant.
    line: int | None
    message: str

    def __str__(self) -> str:
        place = self.file if self.line is None else f"{self.file}:{self.line}"
        return f"{place}: {self.message}"


def files_input(project: str) -> str:
    """Name the input that stands for a project's own files: locally, the hash of what its build reads."""
    return f"files:{project}"


# --- observations ---------------------------------------------------------------------------------------


class VersionRead(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A system of record said what an input is now."""

    #: Image reference (`Reference.identity`), `files:<project>`, or a project id where it has no image.
    input: str
    #: None: there is no such image.
    version: str | None
    at: float


class BuildStarted(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A build runs, whoever started it; `inputs` are the versions at its start, if they are known."""

    project: str
    build: str
    at: float
    #: The same by the clock of who told it, to know it again; None: nobody did.
    told_at: float | None = None
    inputs: Mapping[str, str] | None = None
    #: Why, in words for people: `base moved`, `push`, `alice asked`.
    cause: str = ""
    url: str = ""
    #: The cascade that it is counted to, for people; empty: none.
    cascade: str = ""


class BuildFinished(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A build ended and, if it succeeded, the digests of its images were read.

    Where its record names other versions than are known, those inputs are to be read again before: they may
    have moved unnoticed, and an old reading would make the new image look stale.
    """

    project: str
    build: str
    at: float
    #: The same by the clock of who told it, to know it again; None: nobody did.
    told_at: float | None = None
    #: `superseded`: a newer build took its place, so that its end says nothing of the project.
    outcome: Literal["success", "failed", "cancelled", "superseded"]
    #: What the image says it was built from; None: what was known at the start of the build counts.
    inputs: Mapping[str, str] | None = None
    #: Versions of inputs that the image's layers prove it holds; they win over what was known at the start.
    proven: Mapping[str, str] = {}
    #: Versions of the images after the build, by image reference; of the project itself, if it has no image.
    outputs: Mapping[str, str | None] = {}
    #: Why it failed, in a line.
    message: str = ""


class ImageFound(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A project was first seen with an image, or a successful pipeline, whose build was not watched."""

    project: str
    at: float
    #: The same by the clock of who told it, to know it again; None: nobody did.
    told_at: float | None = None
    #: What the image's label says it was built from; believed. None: it carries no record.
    inputs: Mapping[str, str] | None
    #: Without a record: take it as built on the present versions (never start a storm), or as stale.
    adopt: bool = True
    #: Inputs that its layers prove to be older than the present ones.
    proven_stale: tuple[str, ...] = ()
    #: The build that made it, if that is known: what is told of it later is no news.
    build: str = ""


class WentInactive(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A project turned out to have no builds (no CI): it is always settled, until a build of it is seen."""

    project: str
    at: float


class RebuildAsked(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A person asked for a build, needed or not."""

    project: str
    at: float
    by: str = ""
    reason: str = ""


class RetryAsked(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A person asked to try a failed project again, now."""

    project: str
    at: float
    by: str = ""
    reason: str = ""


class Paused(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Nothing is started for a project (None: for any), nor below it if `subtree`."""

    project: str | None
    at: float
    subtree: bool = False
    by: str = ""
    reason: str = ""


class Resumed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The pause of a project (None: of all) ended."""

    project: str | None
    at: float


class GivenUp(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """A failed project was waited for long enough (`Policy.hold_max`): its children go on without it."""

    project: str
    at: float


Observation = (
    VersionRead
    | BuildStarted
    | BuildFinished
    | ImageFound
    | WentInactive
    | RebuildAsked
    | RetryAsked
    | Paused
    | Resumed
    | GivenUp
)

# --- actions --------------------------------------------------------------------------------------------

ReasonKind = Literal["moved", "added", "missing", "never-built", "no-record", "files", "asked", "proven"]


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """Why a project is stale: one differing input, or a cause of its own."""

    kind: ReasonKind
    #: The input that differs; empty where the cause is not an input.
    input: str = ""
    before: str | None = None
    after: str | None = None
    #: For people, in a few words: `base moved`, `its own files changed`.
    text: str


class StartBuild(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Start a build of a project, from these inputs."""

    project: str
    inputs: Mapping[str, str]
    reasons: tuple[Reason, ...]


class FailBuild(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Count a build as failed: it lasts longer than `Policy.build_max_seconds`."""

    project: str
    build: str


class GiveUp(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Let the children of a failed project go on with its last good version (`Policy.hold_max_seconds`)."""

    project: str


Action = StartBuild | FailBuild | GiveUp


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What to do now, and when to decide again if nothing is observed before."""

    actions: tuple[Action, ...]
    #: Unix time in seconds; None: only an observation can change the decision.
    wake_at: float | None
