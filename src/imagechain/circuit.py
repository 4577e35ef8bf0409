"""A circuit breaker as a value: a server that is down is not hammered, and is noticed when it is back. Pure.

After some failures in a row the circuit opens: nothing is sent but one request now and then, which serves as
the probe. The first answer closes it. The time is an argument, in seconds; where the clock jumps, one request
too many is sent at most.
"""

import msgspec

#: Failures in a row, of any requests, after which a server counts as down.
FAILURES_MAX = 10
#: How long it is left alone before it is tried again; doubled by each probe.
PROBE_SECONDS_MIN = 5.0
PROBE_SECONDS_MAX = 60.0


class Circuit(msgspec.Struct, frozen=True):
    """What the latest requests to one server came to."""

    failures: int = 0
    #: When it opened; None: it is closed, and requests are sent.
    opened_at: float | None = None
    #: When the next request may be sent, while it is open.
    probe_at: float = 0.0
    interval_seconds: float = PROBE_SECONDS_MIN

    def wait_seconds(self, now: float) -> float:
        """Tell how long no request may be sent; 0: one may."""
        if self.opened_at is None:
            return 0.0
        wait = self.probe_at - now
        # Longer than it ever waits: the clock went back.
        return wait if 0.0 < wait <= PROBE_SECONDS_MAX else 0.0

    def sent(self, now: float) -> "Circuit":
        """Take note that a request is sent: while it is open, the next one has to wait, answered or not."""
        if self.opened_at is None:
            return self
        interval = min(self.interval_seconds * 2, PROBE_SECONDS_MAX)
        return msgspec.structs.replace(self, probe_at=now + self.interval_seconds, interval_seconds=interval)

    def failed(self, now: float, count: int = 1) -> "Circuit":
        """Take note of a failure, or of one that is worth several."""
        if self.opened_at is not None:
            return self
        if self.failures + count < FAILURES_MAX:
            return msgspec.structs.replace(self, failures=self.failures + count)
        return Circuit(FAILURES_MAX, now, now + PROBE_SECONDS_MIN, PROBE_SECONDS_MIN * 2)


#: Of a server that answered last.
CLOSED = Circuit()
