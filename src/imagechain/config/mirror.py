"""The tables `[[mirror]]`: which tags of which repository are kept mirrored, and where."""

from datetime import UTC, datetime

import msgspec
from cronsim import CronSim, CronSimError

from imagechain.config.values import Duration
from imagechain.refs import DEFAULT_TAG, PlatformError, ReferenceError, parse_platform, parse_reference


class MirrorSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table `[[mirror]]`: tags of one repository that are kept mirrored in another one."""

    #: Repositories with their registries, without a tag. They may be called differently.
    source: str
    target: str
    #: Names, globs (`17*`), `/regular expressions/` and version ranges (`>=15 <18`): what any of them takes.
    tags: tuple[str, ...]
    #: The same, for what is left out.
    deny: tuple[str, ...] = ()
    #: Of versions of one form (`16.1` and `17.2`, not `17-alpine`), only so many of the newest; 0: all.
    newest: int = 0
    #: Only these; empty: all, with the digest of the source.
    platforms: tuple[str, ...] = ()
    #: Signatures, attestations and the like too.
    referrers: bool = False
    #: What a tag named before it moved stays under a dated tag; of those so many are kept when pruning.
    keep_previous: int = 3
    #: Whether `mirror sync --prune` may remove from the target what the source or this table has no more.
    prune: bool = False
    #: A digest must have been known so long, by the history of its tag; until then the old one stays.
    cooldown: Duration = Duration(0)
    #: Whether it must meet its policy of `[vet]`.
    vet: bool = False
    #: A cron expression in UTC: not looked at again before; empty: at each run.
    schedule: str = ""

    def __post_init__(self) -> None:
        """Refuse what is no repository, takes no tag, or could never run."""
        for name, repository in (("source", self.source), ("target", self.target)):
            try:
                # What has a tag or a digest already takes no other.
                parse_reference(f"{repository}:{DEFAULT_TAG}")
            except ReferenceError as error:
                problem = f"{name} {repository!r} must be a repository without tag and digest: {error}"
                raise ValueError(problem) from error
        if not self.tags:
            raise ValueError('tags is empty; name some, or take all with tags = ["*"]')
        if self.newest < 0 or self.keep_previous < 0:
            raise ValueError("newest and keep_previous must not be negative")
        for platform in self.platforms:
            try:
                parse_platform(platform)
            except PlatformError as error:
                raise ValueError(f"platforms: {error}") from error
        if self.schedule:
            try:
                CronSim(self.schedule, datetime.now(UTC))
            except CronSimError as error:
                raise ValueError(f"schedule {self.schedule!r} is no cron expression: {error}") from error
