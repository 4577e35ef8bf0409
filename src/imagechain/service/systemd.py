"""What systemd is told (sd_notify(3)): that the service is ready, lives, stops. Without systemd, nothing."""

import os
import socket
from collections.abc import Mapping


def notify(message: str, environ: Mapping[str, str] = os.environ) -> bool:
    """Send `READY=1`, `WATCHDOG=1` or `STOPPING=1`; False: nobody wants to know."""
    address = environ.get("NOTIFY_SOCKET", "")
    if not address:
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to_systemd:
        to_systemd.sendto(message.encode(), address)
    return True


def watchdog_seconds(environ: Mapping[str, str] = os.environ) -> float | None:
    """Tell how often systemd wants to hear that the service lives; None: never."""
    microseconds = environ.get("WATCHDOG_USEC", "")
    is_ours = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(microseconds) / 1_000_000 if microseconds.isdecimal() and is_ours else None
