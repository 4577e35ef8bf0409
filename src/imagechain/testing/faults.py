"""What goes wrong in a simulated world, drawn from one seeded random source so that a run can be repeated."""

from random import Random
from typing import Literal

import msgspec

RequestFault = Literal["error", "limit-text", "limit-json", "request-lost", "answer-lost"]


class Faults(msgspec.Struct, kw_only=True):
    """Probabilities from 0 to 1, and how bad it gets. All are off until a test sets them."""

    #: A hook's call never happens, as after a crash of GitLab's worker.
    hook_drop: float = 0.0
    #: A hook is called twice, with the same idempotency key.
    hook_duplicate: float = 0.0
    #: A hook's call comes later, by up to `hook_delay_seconds_max`.
    hook_delay: float = 0.0
    hook_delay_seconds_max: float = 60.0
    #: A hook's call overtakes the one queued before it.
    hook_reorder: float = 0.0
    #: A request is answered by 500, 502 or 503, and not carried out.
    error: float = 0.0
    #: A request is answered by 429 as Rack::Attack does (text).
    limit_text: float = 0.0
    #: A request is answered by 429 as the application does (JSON).
    limit_json: float = 0.0
    #: A request is not carried out, and never answered.
    request_lost: float = 0.0
    #: A request is carried out, and never answered.
    answer_lost: float = 0.0
    #: How long each answer takes.
    latency_seconds: float = 0.0
    #: How long a client over a socket waits for an answer that never comes, at most.
    hang_seconds_max: float = 60.0

    def request_fault(self, random: Random) -> RequestFault | None:
        """Draw what goes wrong with a request. One number is drawn always, so that runs stay comparable."""
        drawn = random.random()
        for probability, fault in self._request_faults():
            if drawn < probability:
                return fault
            drawn -= probability
        return None

    def _request_faults(self) -> tuple[tuple[float, RequestFault], ...]:
        return (
            (self.error, "error"),
            (self.limit_text, "limit-text"),
            (self.limit_json, "limit-json"),
            (self.request_lost, "request-lost"),
            (self.answer_lost, "answer-lost"),
        )
