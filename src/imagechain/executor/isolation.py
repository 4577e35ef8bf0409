"""Keep the networks of jobs apart while those of other jobs come and go.

Netavark (measured with 1.4) drops traffic between networks with `isolate=true` in a chain of its own, but
whenever one such network is taken down it removes the rule that leads there: until the next network is made,
all other jobs can reach each other. A second rule, which it does not know, leads there for good.
"""

import subprocess

from imagechain.executor import podman, settings
from imagechain.executor.errors import SystemFailureError
from imagechain.executor.folders import StateFolder

_RULE = (
    *("FORWARD", "-m", "comment", "--comment", "imagechain keeps jobs apart"),
    *("-j", "NETAVARK_ISOLATION_1"),
)
_SECONDS_MAX = 30


def keep(state: StateFolder) -> None:
    """Make sure of the rule; a container must run in a network with `isolate=true`, so that the chain exists.

    Raises:
        SystemFailureError: it cannot be made, and jobs would not be apart.
    """
    if _iptables("-C").returncode == 0:
        return
    with state.locked():
        # Two jobs may begin at once.
        if _iptables("-C").returncode == 0:
            return
        made = _iptables("-I")
    # A netavark that writes to nftables has no such chain, and needs no help.
    if made.returncode != 0 and not any(words in made.stderr for words in ("No chain", "does not exist")):
        raise SystemFailureError(f"cannot keep the networks of jobs apart: {made.stderr.strip()}")


def _iptables(command: str) -> "subprocess.CompletedProcess[str]":
    # Without root the networks are in a network namespace of podman's.
    where = () if settings.is_root() else ("podman", "unshare", "--rootless-netns")
    argv = [*where, "iptables", "--wait", command, *_RULE]
    environment = podman.environment()
    environment["PATH"] += ":/usr/sbin:/sbin"
    try:
        return subprocess.run(
            argv, env=environment, cwd="/", capture_output=True, text=True, timeout=_SECONDS_MAX, check=False
        )
    except FileNotFoundError:
        return subprocess.CompletedProcess(argv, 1, "", "iptables does not exist here")
    except subprocess.TimeoutExpired:
        raise SystemFailureError(f"iptables did not end within {_SECONDS_MAX} s") from None
