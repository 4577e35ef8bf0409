"""Who runs the health check of a new container, and how long it may take to become healthy."""

from pathlib import Path

import pytest

from hosts.fake import SLOW_SECONDS
from hosts.worlds import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.push("app", "1")
    world.pull("app")
    return world


def results(world: World) -> list[str]:
    return [outcome.result for outcome in world.update().outcomes]


@pytest.mark.parametrize(("how", "expected"), [("ok", "updated"), ("unhealthy", "rolled-back")])
def test_where_a_timer_of_systemd_runs_the_check_it_is_believed(
    world: World, how: str, expected: str
) -> None:
    world.systemd.here = world.store.has_timers = True
    world.run("--name", "web", "--health-cmd", "true")
    world.behave(world.push("app", "2"), how)
    assert results(world) == [expected]
    assert "healthcheck" not in world.podman.calls


@pytest.mark.parametrize(("how", "expected"), [("ok", "updated"), ("unhealthy", "rolled-back")])
def test_where_systemd_runs_but_no_timer_does_the_check_is_run_here(
    world: World, how: str, expected: str
) -> None:
    world.systemd.here = True
    world.run("--name", "web", "--health-cmd", "true", "--health-interval", "30s")
    world.behave(world.push("app", "2"), how)
    began = world.clock.time
    assert results(world) == [expected]
    assert "healthcheck" in world.podman.calls
    assert world.clock.time - began >= 30, "a timer is given the time that it has"


@pytest.mark.parametrize("interval", [SLOW_SECONDS, SLOW_SECONDS - 5])
def test_a_check_that_is_run_here_gives_up_no_sooner_than_podman_would(world: World, interval: int) -> None:
    # Two failures make it unhealthy for podman: at the start, and after the interval.
    world.run("--name", "web", "--health-cmd", "true", "--health-interval", f"{interval}s")
    world.behave(world.push("app", "2"), "slow")
    assert results(world) == ["updated" if interval >= SLOW_SECONDS else "rolled-back"]


def test_a_check_that_nobody_ever_runs_is_run_here(world: World) -> None:
    world.systemd.here = True
    world.run("--name", "web", "--health-cmd", "true", "--health-interval", "0s")
    world.push("app", "2")
    assert results(world) == ["updated"]
    assert "healthcheck" in world.podman.calls
