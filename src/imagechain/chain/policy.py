"""The settings that a decision depends on, as one value; and the windows in which builds may start."""

from datetime import UTC, datetime, timedelta, tzinfo

import msgspec
from cronsim import CronSim, CronSimError

#: Minute, hour, day of the month, month, day of the week.
_CRON_FIELDS = 5


class Policy(msgspec.Struct, frozen=True, kw_only=True):
    """When stale projects are started. The defaults are those of the settings table `[policy]`."""

    #: How long a moved external image must have been still: tags for several platforms move several times.
    quiet_seconds: float = 300.0
    #: Waits before the first, second, ... retry of a failed build; then it is held until an input moves.
    retry_seconds: tuple[float, ...] = (0.0, 60.0, 300.0, 1_800.0, 7_200.0)
    #: After failing that long, children go on with the last good version; None: never.
    hold_max_seconds: float | None = None
    #: A build that lasts longer counts as failed.
    build_max_seconds: float = 21_600.0
    #: Builds at once, whoever started them.
    builds_max: int = 8
    #: Builds started within any 60 seconds; None: any number.
    starts_per_minute_max: int | None = 20
    #: Cron expressions: builds may start in every minute that one of them names; none: always.
    windows: tuple[str, ...] = ()
    #: Time zone of the windows.
    timezone: tzinfo = UTC

    def __post_init__(self) -> None:
        """Refuse windows that are no cron expressions, where the message can still name them."""
        for window in self.windows:
            try:
                CronSim(window, datetime(2000, 1, 1, tzinfo=UTC))
            except CronSimError as error:
                problem = str(error)
            else:
                problem = "" if len(window.split()) == _CRON_FIELDS else "it has no five fields"
            if problem:
                raise ValueError(
                    f"window {window!r} is no cron expression ({problem}): write one like '* 22-23,0-5 * * *'"
                )


def local_policy(jobs: int) -> Policy:
    """Give the policy of one run on one machine: all that is stale, at once, and no second try."""
    return Policy(quiet_seconds=0.0, retry_seconds=(), builds_max=jobs, starts_per_minute_max=None)


def window_opens_at(policy: Policy, now: float) -> float:
    """Tell when builds may start: `now` within a window, else when the next one opens."""
    if not policy.windows:
        return now
    minute = datetime.fromtimestamp(now, policy.timezone).replace(second=0, microsecond=0)
    before = minute - timedelta(minutes=1)
    return max(now, min(next(CronSim(window, before)).timestamp() for window in policy.windows))
