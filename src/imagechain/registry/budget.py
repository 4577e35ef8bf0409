"""How many requests a registry still wants from one account: one value, changed by what the registry says.

Three limits are kept apart, because registries do:

- our own pace, `requests_per_minute_max`: never more than that in any minute;
- a door that the registry closed with 429 (or 503) and `Retry-After`: no request at all until it opens;
- a quota of pulls (`ratelimit-limit: 100;w=21600`, `ratelimit-remaining`), which Docker Hub counts for GETs
  of manifests and not for HEADs: only GETs stop, before it is used up, and HEADs show when it grows again.

Whoever does what may wait stops pulling while a part of the quota is left. The registry itself keeps count
for all who share an account or address, and tells each of them: nothing has to be shared on this side.

Pure: the time is an argument, in seconds of any clock that does not jump.
"""

import math
import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

import msgspec

#: A registry that asks to be left alone for longer is asked again after this time.
CLOSED_SECONDS_MAX = 6 * 3600.0
#: How long a registry is left alone after a 429 that does not say; doubled by each further one.
CLOSED_SECONDS_DEFAULT = 60.0
_CLOSED_DOUBLINGS_MAX = 6

_QUOTA = re.compile(r"\s*(\d{1,9})\s*(?:;\s*w=(\d{1,9}))?")


class Quota(msgspec.Struct, frozen=True):
    """What a registry last said of pulls."""

    remaining: int
    limit: int
    window_seconds: int
    read_at: float


class Budget(msgspec.Struct, frozen=True):
    """The requests that one account may make at one registry."""

    requests_per_minute_max: int
    #: Of a quota of pulls, what is left to others.
    reserved_percent: int = 0
    #: When the pace would be fully recovered (the "theoretical arrival time" of GCRA).
    recovered_at: float = float("-inf")
    #: No request before this time: the registry said so.
    closed_until: float = float("-inf")
    #: 429s in a row without a word on how long to wait.
    refusals: int = 0
    quota: Quota | None = None
    #: Requests that the registry may have counted already, and has not answered.
    pulls_under_way: int = 0

    def opens_at(self, *, pull: bool) -> float:
        """When the registry takes requests again, as far as it said; `pull`: requests that it counts."""
        quota = self.quota
        if pull and quota is not None and self.pulls_left <= 0:
            return max(self.closed_until, quota.read_at + quota.window_seconds)
        return self.closed_until

    @property
    def pulls_left(self) -> float:
        """How many pulls may begin, as far as the registry said."""
        if self.quota is None:
            return math.inf
        reserved = math.ceil(self.quota.limit * self.reserved_percent / 100)
        return self.quota.remaining - reserved - self.pulls_under_way

    def pull_began(self) -> "Budget":
        """Take note of a pull that is sent."""
        return msgspec.structs.replace(self, pulls_under_way=self.pulls_under_way + 1)

    def pull_ended(self) -> "Budget":
        """Take note of a pull that was answered, or given up."""
        return msgspec.structs.replace(self, pulls_under_way=max(self.pulls_under_way - 1, 0))

    def take(self, now: float) -> tuple["Budget", float]:
        """Take one request; return what is left, and when the request may start by our own pace."""
        # Half of the minute's requests may come at once, the others at equal distances.
        burst = max(1, self.requests_per_minute_max // 2)
        interval_seconds = 60.0 / (self.requests_per_minute_max - burst + 1)
        start_at = max(now, self.recovered_at - (burst - 1) * interval_seconds)
        recovered_at = max(start_at, self.recovered_at) + interval_seconds
        return msgspec.structs.replace(self, recovered_at=recovered_at), start_at

    def refused(self, now: float, retry_after_seconds: float | None) -> "Budget":
        """Take note of a 429."""
        if retry_after_seconds is None:
            seconds = CLOSED_SECONDS_DEFAULT * 2.0 ** min(self.refusals, _CLOSED_DOUBLINGS_MAX)
            refusals = self.refusals + 1
        else:
            seconds, refusals = min(retry_after_seconds, CLOSED_SECONDS_MAX), self.refusals
        closed_until = max(self.closed_until, now + seconds)
        return msgspec.structs.replace(self, closed_until=closed_until, refusals=refusals)

    def answered(self, now: float, headers: Mapping[str, str], *, pull: bool = False) -> "Budget":
        """Take note of an answer that was no refusal, of a pull or not; its headers may tell the quota."""
        quota, known = _read_quota(now, headers) or self.quota, self.quota
        is_in_window = known is not None and now < known.read_at + known.window_seconds
        # Answers overtake each other, so that a pull may tell of an earlier time than what is known. Other
        # requests show when the quota grows again, once no pull is under way.
        if quota is not None and known is not None and is_in_window and (pull or self.pulls_under_way):
            quota = msgspec.structs.replace(quota, remaining=min(quota.remaining, known.remaining))
        return msgspec.structs.replace(self, refusals=0, quota=quota)


def retry_after_seconds(headers: Mapping[str, str]) -> float | None:
    """Read `Retry-After`: seconds, or a date, which is compared with the server's own clock."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return min(float(text), CLOSED_SECONDS_MAX)
    try:
        seconds = (
            parsedate_to_datetime(text) - parsedate_to_datetime(headers.get("date", ""))
        ).total_seconds()
    except (TypeError, ValueError, OverflowError):
        return None
    return min(max(seconds, 0.0), CLOSED_SECONDS_MAX)


def _read_quota(now: float, headers: Mapping[str, str]) -> Quota | None:
    limit = _QUOTA.fullmatch(headers.get("ratelimit-limit", ""))
    remaining = _QUOTA.fullmatch(headers.get("ratelimit-remaining", ""))
    if limit is None or remaining is None:
        return None
    window = limit[2] or remaining[2]
    if window is None:
        return None
    return Quota(int(remaining[1]), int(limit[1]), int(window), now)
