"""What a stage does when the runner cancels it: end with the exit code of a failure, never with 0.

The runner takes an exit code 0 after its TERM for success.
"""

import signal
from types import FrameType

from imagechain.executor.errors import SystemFailureError

_CANCELLING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)


class CancelledError(SystemFailureError):
    """The stage was asked to end."""


def raise_when_cancelled() -> None:
    """From now on the first signal raises in the main thread, and further ones change nothing."""
    for number in _CANCELLING:
        signal.signal(number, _cancel)


def _cancel(number: int, frame: FrameType | None) -> None:
    del frame
    for other in _CANCELLING:
        signal.signal(other, signal.SIG_IGN)
    raise CancelledError(f"cancelled ({signal.Signals(number).name})")
