"""What the service asks of the world, as small protocols: GitLab, the registries, the store, the clock.

The loop knows nothing else of the world. So the simulation runs the real loop against twins that fail on
purpose, and a crash can be put before and after every call. Times are Unix times in seconds.

Every call to GitLab or a registry raises `RetryableError` (try again later, nothing is known) or
`RefusedError` (the answer was no, and will be no again until a person changes something).
"""

from collections.abc import Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from imagechain.chain import Dependency, Problem, Source
from imagechain.gitlab.hook_secrets import HookOwner
from imagechain.gitlab.rest import HookEvent
from imagechain.store.values import (
    BuildRow,
    CascadeRow,
    Change,
    Hint,
    Lease,
    Memory,
    StoredHint,
)


class RetryableError(Exception):
    """A system did not answer, or not now; whether what was asked has happened is unknown.

    Attributes:
        retry_after_seconds: how long it asked to be left alone; None: it did not say.
    """

    def __init__(self, message: str, retry_after_seconds: float | None = None) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class NotNowError(RetryableError):
    """What was asked has certainly not happened: the system said that it is too busy for it."""


class RefusedError(Exception):
    """A system said no, and nothing has happened; the message says why, and what a person can do."""


# --- GitLab ---------------------------------------------------------------------------------------------


#: How pipelines of a project can be told that they only try another image (`IMAGE_TRIAL`).
TrialBy = Literal["none", "input", "variable"]


class TrackedProject(msgspec.Struct, frozen=True, kw_only=True):
    """A branch of a project whose pipelines are builds of a source."""

    #: Id of the source: the project's path, or `path@branch`.
    source: str
    #: GitLab's number of the project.
    project_id: int
    #: The branch; None: the repository is empty, so that there is nothing to build.
    ref: str | None
    #: Inputs that its CI configuration declares for what we tell a pipeline (`Forge.create_pipeline`).
    inputs: frozenset[str] = frozenset()
    trial: TrialBy = "none"

    @property
    def path(self) -> str:
        """The project's path."""
        return self.source.partition("@")[0]


class Scan(msgspec.Struct, frozen=True, kw_only=True):
    """What the projects of the groups are and are built from, now."""

    projects: tuple[TrackedProject, ...]
    sources: tuple[Source, ...]
    dependencies: tuple[Dependency, ...]
    problems: tuple[Problem, ...] = ()


class Pipeline(msgspec.Struct, frozen=True, kw_only=True):
    """A pipeline as the API shows it (contract, section 3.4), its times by GitLab's clock."""

    id: int
    project_id: int
    #: Branch or tag; of merge request pipelines `refs/merge-requests/N/head`.
    ref: str
    sha: str
    #: `push`, `api`, `schedule`, `web`, `merge_request_event`, `parent_pipeline`, ...
    source: str
    #: `created`, `pending`, `running`, `success`, `failed`, `canceled`, `skipped`, `manual`, ...
    status: str
    created_at: float
    updated_at: float
    #: None while it runs; lists do not have it: then `updated_at` counts.
    finished_at: float | None = None
    is_tag: bool = False
    url: str = ""
    #: Why there are no jobs in it; lists do not have it.
    yaml_errors: str = ""
    #: How far GitLab's clock was ahead of ours when it told this; negative: behind.
    ahead_seconds: float = 0.0

    def by_our_clock(self, told_at: float) -> float:
        """Give a time that GitLab told by the clock that decisions go by, to a second or so."""
        return told_at - self.ahead_seconds


class PipelinesFound(msgspec.Struct, frozen=True):
    """The pipelines of many branches, in any order."""

    pipelines: Sequence[Pipeline]
    #: Numbers of the projects on which GitLab failed, while it gave those of others.
    failed: frozenset[int] = frozenset()


class Hook(msgspec.Struct, frozen=True, kw_only=True):
    """A webhook as the API shows it; secrets are never shown."""

    id: int
    url: str
    #: Names of the events it fires for: `pipeline_events`, `push_events`, ...
    events: frozenset[str]
    #: `executable`, `temporarily_disabled`, `disabled`; empty where the instance does not tell.
    alert_status: str = ""
    has_token: bool = True
    #: None: an instance before GitLab 19, which does not know signing tokens.
    has_signing_token: bool | None = None
    verifies_tls: bool = True


class HookSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a webhook is to be."""

    url: str
    events: frozenset[HookEvent]
    token: str
    #: `whsec_...`; instances before GitLab 19 ignore it.
    signing_token: str
    verifies_tls: bool = True


class Pipelines(Protocol):
    """GitLab, as far as it is about builds."""

    async def scan(self) -> Scan:
        """Read the groups' projects and what they are built from; unchanged files are not read again."""
        ...

    async def latest_pipelines(self, projects: Sequence[TrackedProject]) -> PipelinesFound:
        """Give the latest pipelines of tracked branches, some ten of each."""
        ...

    async def pipelines_since(
        self, projects: Sequence[TrackedProject], updated_after: float
    ) -> PipelinesFound:
        """Give the pipelines of tracked branches that were updated after a time."""
        ...

    async def pipeline(self, project_id: int, pipeline_id: int) -> Pipeline | None:
        """Give one pipeline; None: there is none."""
        ...

    async def pipelines_after(self, project: TrackedProject, pipeline_id: int) -> Sequence[Pipeline]:
        """Give the pipelines of a tracked branch whose ids are larger than one."""
        ...

    async def create_pipeline(self, project: TrackedProject, told: Mapping[str, str]) -> Pipeline:
        """Start a pipeline, and tell it what can be told there. Called once for each intent.

        Args:
            project: what is built.
            told: by the names of variables; as inputs, they are written in small letters.

        Raises:
            RefusedError: GitLab said no.
            NotNowError: GitLab starts no pipelines just now.
            RetryableError: nobody knows whether it was started.
        """
        ...


class Forge(Pipelines, Protocol):
    """GitLab."""

    async def hooks(self, owner: HookOwner) -> Sequence[Hook]:
        """List the webhooks of a project or group."""
        ...

    async def create_hook(self, owner: HookOwner, settings: HookSettings) -> None:
        """Add a webhook."""
        ...

    async def update_hook(self, owner: HookOwner, hook_id: int, settings: HookSettings) -> None:
        """Set all of a webhook again; its secrets too, which a change of the URL would clear."""
        ...

    async def delete_hook(self, owner: HookOwner, hook_id: int) -> None:
        """Remove a webhook; one that is gone already is no error."""
        ...

    async def test_hook(self, project_id: int, hook_id: int, event: HookEvent) -> None:
        """Let GitLab send a test event of a project, which enables a disabled webhook again."""
        ...


# --- registries -----------------------------------------------------------------------------------------


class ImageRead(msgspec.Struct, frozen=True, kw_only=True):
    """What a reference names now."""

    #: Of an index, where it is for several platforms.
    digest: str
    #: Content key; of several platforms, `join_platforms`.
    content: str
    #: The label `dev.imagechain.inputs`: content by reference as written, no pinned ones; None: no label.
    inputs: Mapping[str, str] | None = None
    #: Layers by platform, the lowest first.
    diff_ids: Mapping[str, tuple[str, ...]] = {}


class ImageAbsent(msgspec.Struct, frozen=True):
    """The registry says that there is no such image."""


class ImageUnchecked(msgspec.Struct, frozen=True):
    """Whether there is such an image could not be told; `message` says which, and why."""

    message: str
    #: How long the registry asked to be left alone; None: it did not say.
    retry_after_seconds: float | None = None


class Images(Protocol):
    """The registries."""

    async def read(self, reference: str) -> ImageRead | ImageAbsent | ImageUnchecked:
        """Tell what a reference names now; costs one HEAD while its digest stays."""
        ...


# --- the store ------------------------------------------------------------------------------------------


class Cache(Protocol):
    """Where it is kept what can be read again at a cost, such as a file by its blob id."""

    async def cached(self, kind: str, keys: Sequence[str]) -> Mapping[str, bytes]:
        """Give what was kept under these keys; what is missing is left out."""
        ...

    async def cache(self, kind: str, values: Mapping[str, bytes]) -> None:
        """Keep values under their keys."""
        ...


class Store(Cache, Protocol):
    """Where all is kept. Every call is one transaction, durable when it returns."""

    async def add_hint(self, hint: Hint, key: str, received_at: float) -> bool:
        """Put a hint into the inbox; False: a hint of this key is or was there."""
        ...

    async def hints(self, limit: int) -> Sequence[StoredHint]:
        """Give the oldest hints that were not followed up."""
        ...

    async def take_lease(self, owner: str, seconds: float, now: float) -> Lease | None:
        """Take or renew the lease; None: another owner has it."""
        ...

    async def release_lease(self, lease: Lease) -> None:
        """Give the lease back before its time, if it is still held."""
        ...

    async def load(self) -> Memory:
        """Give what was written last."""
        ...

    async def write(self, change: Change, lease: Lease) -> None:
        """Write what one step changed.

        Raises:
            LeaseLostError: the lease's number is not the present one: nothing was written.
        """
        ...

    async def builds(self, limit: int, source: str | None = None) -> Sequence[BuildRow]:
        """Give the latest builds, the latest first."""
        ...

    async def cascades(self, limit: int) -> Sequence[CascadeRow]:
        """Give the latest cascades, the latest first."""
        ...


# --- the clock ------------------------------------------------------------------------------------------


class Clock(Protocol):
    """The time, which never goes back."""

    def now(self) -> float:
        """Tell the Unix time."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...
