"""How what may pass is tried again. Imported at the first request: stamina takes a while to load."""

import stamina
import stamina.instrumentation

# By itself stamina writes each retry to standard output, among the results; errors tell the last one.
stamina.instrumentation.set_on_retry_hooks([])


def retrying(attempts: int) -> stamina.AsyncRetryingCaller:
    """Give what calls something so many times at most, with pauses that grow."""
    return stamina.AsyncRetryingCaller(attempts=attempts, wait_initial=0.2, wait_max=2.0, timeout=None)
