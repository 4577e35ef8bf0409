"""The table `[policy]`: what makes a project stale, and when the service starts its build."""

import msgspec

from imagechain.chain import BUILD_KINDS, DependencyKind, Policy
from imagechain.config.values import Duration, read_duration
from imagechain.refs import Platform, PlatformError, parse_platform


class PolicySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table `[policy]`: what makes a project stale, and when the service starts its build."""

    #: A moved external image must have been still this long.
    quiet: Duration = Duration(300)
    #: How often everything is read again.
    reconcile: Duration = Duration(900)
    #: How often external images are looked at.
    external: Duration = Duration(900)
    #: Waits before the first, second, ... retry of a failed build; then it is held.
    retry: tuple[Duration, ...] = (
        Duration(0),
        Duration(60),
        Duration(300),
        Duration(1_800),
        Duration(7_200),
    )
    #: A span of time, after which children go on without a failed parent; empty: never.
    hold_max: str = ""
    #: A build that lasts longer counts as failed.
    build_max: Duration = Duration(21_600)
    #: Builds at once, whoever started them.
    builds_max: int = 8
    starts_per_minute_max: int = 20
    #: Cron expressions: builds are started in every minute that one of them names, in UTC; none: always.
    windows: tuple[str, ...] = ()
    #: Platforms that images are built for and run on; what an image is for others makes nothing stale.
    #: Containerfiles are read for the first of them.
    platforms: tuple[str, ...] = ("linux/amd64",)
    #: Images that CI jobs run in make a project stale.
    ci_images: bool = False
    #: So do included files and components of other projects.
    ci_includes: bool = False

    def __post_init__(self) -> None:
        """Refuse what no build could ever start by."""
        self.policy()
        if not self.parsed_platforms() or len(set(self.parsed_platforms())) < len(self.platforms):
            raise ValueError("platforms must name one or more platforms, each once")
        for name, value in (
            ("reconcile", self.reconcile),
            ("external", self.external),
            ("builds_max", self.builds_max),
            ("starts_per_minute_max", self.starts_per_minute_max),
        ):
            if value <= 0:
                raise ValueError(f"{name} must be more than 0")

    def policy(self) -> Policy:
        """Give the policy of the chain."""
        return Policy(
            quiet_seconds=self.quiet,
            retry_seconds=self.retry,
            hold_max_seconds=read_duration(self.hold_max) if self.hold_max else None,
            build_max_seconds=self.build_max,
            builds_max=self.builds_max,
            starts_per_minute_max=self.starts_per_minute_max,
            windows=self.windows,
        )

    def parsed_platforms(self) -> tuple[Platform, ...]:
        """Give the platforms in use.

        Raises:
            ValueError: one of them is none.
        """
        try:
            return tuple(map(parse_platform, self.platforms))
        except PlatformError as error:
            raise ValueError(f"platforms: {error}") from error

    def kinds(self) -> frozenset[DependencyKind]:
        """Name the kinds of dependencies that make a project stale."""
        kinds = BUILD_KINDS
        if self.ci_images:
            kinds |= {"ci-image", "ci-service"}
        if self.ci_includes:
            kinds |= {"ci-include"}
        return kinds
