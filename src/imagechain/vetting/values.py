"""What vetting speaks of: looks at a tag, the times that speak for its age, and the verdict.

All times are Unix seconds, all spans seconds.
"""

from typing import Literal

import msgspec

#: How an image comes to be, as far as anybody can tell from outside.
Judgement = Literal["continuous", "periodic", "on-release", "stale", "frozen", "unknown"]
#: What a rule found: `unknown` is never a pass.
Outcome = Literal["pass", "violated", "unknown"]
#: What a violated rule means for the exit code: `observe` and `warn` only show it.
Mode = Literal["enforce", "warn", "observe"]

DAY_SECONDS = 86_400.0


class Sighting(msgspec.Struct, frozen=True, kw_only=True):
    """One look at a tag: what it named then. A line of the history."""

    #: The reference, normalised.
    ref: str
    #: `linux/amd64`; empty: only the digest that the tag named was asked for (a HEAD).
    platform: str = ""
    #: Of the platform's manifest: an index moves with every other platform, too. Without a platform, of
    #: whatever the tag named.
    digest: str
    #: What the tag named, where that is another digest; empty: not known.
    index_digest: str = ""
    seen_at: float
    #: What others say of the time at which this digest was made or uploaded, by the name of the clock.
    clocks: dict[str, float] = {}
    #: What the image calls its version; empty: it does not say.
    version: str = ""
    #: The reference of what it is built from, normalised; empty: not known.
    base: str = ""
    #: The digest that its base had when it was built; empty: not known.
    base_digest: str = ""


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What one clock says of the present digest, and whether it is believed."""

    clock: str
    at: float
    #: Why it is not believed; empty: it is.
    rejected: str = ""


class Age(msgspec.Struct, frozen=True, kw_only=True):
    """How old the present digest is, by the best of the clocks."""

    #: The clock that counts; None: none could be believed.
    clock: str | None
    #: By that clock; without one, the time for which the digest is known to be there.
    seconds: float
    #: Whether the publisher cannot have made the time up, so that it may speak against an image.
    is_proven: bool
    readings: tuple[Reading, ...]
    #: Clocks that are believed and far apart, one sentence each.
    conflicts: tuple[str, ...] = ()


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """How an image comes to be, and what says so."""

    judgement: Judgement
    #: Sentences, the decisive one first.
    evidence: tuple[str, ...]
    age: Age
    #: When the tag was first looked at.
    observed_since: float
    #: Times from the moves of its base to its own next moves; empty: none was seen.
    rebuild_lags: tuple[float, ...] = ()
    #: Since when a move of its base is waiting to be followed; None: none is.
    base_moved_at: float | None = None


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """What one rule of the policy says of an image."""

    rule: str
    outcome: Outcome
    message: str
    #: The exception that excuses it: its reason, and until when; empty: none.
    excused: str = ""
