"""The gate that a new container has to pass: it runs, is not restarted, and is healthy, for some time.

podman lets a timer of systemd run the health check. Where there is none (no systemd, a user without a session
of it, `--health-interval=disable`) a container stays "starting" for ever: there the check is run here.
Decides nothing but that.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol

import msgspec

from imagechain.hosts.podman import Podman
from imagechain.hosts.values import Container, Health

#: Whatever a health check's own times say, nobody waits longer than this for it.
HEALTHY_SECONDS_MAX = 3_600.0
_LOOKS_PER_SETTLE = 4
_LOOK_SECONDS_MAX = 1.0
_LOOK_SECONDS_MIN = 0.05
_RETRIES_DEFAULT = 3
_NANOSECONDS = 1e9


class UnfitError(Exception):
    """The new container is not what it must be; the message says why."""


class Clock(Protocol):
    """Time."""

    def now(self) -> float:
        """Tell the Unix time."""
        ...

    def seconds(self) -> float:
        """Tell a time that nobody turns back, in seconds."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class _Watched(msgspec.Struct):
    """What is known of one container so far."""

    #: Whether its health check is run here.
    is_checked_here: bool
    failures: int = 0
    is_healthy: bool = False
    checked_at: float = float("-inf")


async def pass_gate(
    podman: Podman, names: Sequence[str], *, settle_seconds: float, runs_checks: bool, clock: Clock
) -> None:
    """Watch new containers until they have passed.

    Args:
        podman: whose containers.
        names: of the containers.
        settle_seconds: how long they have to run.
        runs_checks: whether nobody else runs health checks; else that is found out of each container.
        clock: the time.

    Raises:
        UnfitError: one of them has not.
        PodmanError: they cannot be looked at.
    """
    begun = clock.seconds()
    step = min(max(settle_seconds / _LOOKS_PER_SETTLE, _LOOK_SECONDS_MIN), _LOOK_SECONDS_MAX)
    watched = {name: _Watched(is_checked_here=runs_checks) for name in names}
    while True:
        found = {container.name: container for container in await podman.containers(names)}
        elapsed = clock.seconds() - begun
        for name, one in watched.items():
            container = found.get(name)
            _check_runs(name, container, elapsed)
            assert container is not None  # noqa: S101 - one that is gone does not run
            if container.has_healthcheck:
                await _check_health(container, one, elapsed, podman.is_healthy)
            else:
                one.is_healthy = True
        if elapsed >= settle_seconds and all(one.is_healthy for one in watched.values()):
            return
        await clock.sleep(step)


def _check_runs(name: str, container: Container | None, elapsed: float) -> None:
    if container is None:
        raise UnfitError(f"{name} ended after {elapsed:.1f} s, and podman removed it")
    if container.state.status not in {"running", "initialized"}:
        raise UnfitError(
            f"{name} ended with exit code {container.state.exit_code} after {elapsed:.1f} s"
            if container.state.status in {"exited", "stopped"}
            else f"{name} is {container.state.status} after {elapsed:.1f} s"
        )
    if container.restart_count:
        raise UnfitError(f"{name} ended and was started again {container.restart_count} times")


async def _check_health(
    container: Container, one: _Watched, elapsed: float, look: Callable[[str], Awaitable[bool]]
) -> None:
    check = container.config.healthcheck
    assert check is not None  # noqa: S101 - only containers with a check come here
    retries = check.retries or _RETRIES_DEFAULT
    start_seconds, interval_seconds = check.start_period / _NANOSECONDS, check.interval / _NANOSECONDS
    health = container.state.health or Health()
    # A timer would have run it at the start, and again after the interval.
    one.is_checked_here |= not health.log and elapsed >= interval_seconds
    if not one.is_checked_here:
        one.is_healthy = health.status == "healthy"
        if health.status == "unhealthy":
            raise UnfitError(f"{container.name} is unhealthy")
    elif elapsed - one.checked_at >= min(interval_seconds, _LOOK_SECONDS_MAX):
        one.checked_at = elapsed
        one.is_healthy = await look(container.id)
        if one.is_healthy:
            one.failures = 0
        elif elapsed >= start_seconds:
            one.failures += 1
        # Looked at more often than asked for, so that it passes soon; but given up no sooner.
        if one.failures >= retries and elapsed >= start_seconds + (retries - 1) * interval_seconds:
            raise UnfitError(f"{container.name}: its health check failed {one.failures} times")
    lasting = start_seconds + retries * (check.interval + check.timeout) / _NANOSECONDS
    if not one.is_healthy and elapsed > min(lasting, HEALTHY_SECONDS_MAX):
        raise UnfitError(f"{container.name} has not become healthy within {elapsed:.0f} s")
