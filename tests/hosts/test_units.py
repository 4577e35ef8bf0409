"""Containers that systemd units run: who owns them, restarts, rollback; and how `systemctl` is read."""

import asyncio
from datetime import UTC
from pathlib import Path

import msgspec
import pytest

from hosts.fake import GRAMMAR, Killed, no_fault
from hosts.worlds import HOST, World
from imagechain.config import HostSettings
from imagechain.hosts.plan import Moment, make_plan
from imagechain.hosts.podman import User
from imagechain.hosts.systemd import SystemdError, SystemdProgram
from imagechain.hosts.values import Moved, Unit

UNIT = "web.service"


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    world.systemd.here = True
    world.push("app", "1")
    world.pull("app")
    return world


def of_unit(world: World, *options: str, unit: str = UNIT, name: str = "web") -> None:
    id = world.run("--name", name, *options)
    world.store.containers[id].unit = unit
    world.systemd.loaded.add(unit)
    world.systemd.active.add(unit)


def test_a_unit_makes_its_container_anew(world: World) -> None:
    of_unit(world)
    world.push("app", "2")
    assert [outcome.result for outcome in world.update().outcomes] == ["updated"]
    assert world.systemd.restarts == [UNIT]
    assert (world.names(), world.version("web")) == (["web"], "2")
    assert "create" not in world.podman.calls


def test_a_unit_that_fails_on_the_new_image_gets_the_old_one_back(world: World) -> None:
    of_unit(world)
    world.behave(world.push("app", "2"), "refuses")
    assert [outcome.result for outcome in world.update().outcomes] == ["rolled-back"]
    assert world.systemd.restarts == [UNIT, UNIT]
    assert (world.names(), world.store.running(), world.version("web")) == (["web"], ["web"], "1")
    assert world.store.names[f"{HOST}/app:latest"] == world.store.by_name("web").image  # type: ignore[union-attr]
    assert world.states() == {"web": "held"}


def test_a_unit_that_only_starts_its_old_container_is_told_apart(world: World) -> None:
    of_unit(world)
    world.systemd.keeps_container = True
    world.push("app", "2")
    outcome = world.update().outcomes[0]
    assert outcome.result == "rolled-back"
    assert "--new" in outcome.why
    assert (world.store.running(), world.version("web")) == (["web"], "1")


def test_a_label_is_believed_only_if_systemd_confirms_it(world: World) -> None:
    # podman-compose names a unit whether or not there is one.
    compose = ("--label", "com.docker.compose.project=p")
    world.run("--name", "free", *compose, "--label", "PODMAN_SYSTEMD_UNIT=podman-compose@p.service")
    of_unit(world, unit="other.service", name="foreign")
    world.systemd.active.remove("other.service")
    world.push("app", "2")
    verdicts = {verdict.container.name: verdict for verdict in world.survey().plan.verdicts}
    assert (verdicts["free"].owner, verdicts["free"].state) == ("compose", "outdated")
    assert verdicts["foreign"].state == "manual"
    assert "does not run it" in verdicts["foreign"].reason


def test_a_pod_of_a_unit_is_restarted_as_a_whole(world: World) -> None:
    of_unit(world, name="infra")
    member = world.run("--name", "member")
    for one in world.store.containers.values():
        one.pod = "pod"
    facts = world.survey().facts
    infra, other = (next(c for c in facts.containers if c.name == name) for name in ("infra", "member"))
    members = (
        msgspec.structs.replace(infra, is_infra=True, pod="p"),
        msgspec.structs.replace(other, pod="p"),
    )
    check = Moved("sha256:new", "sha256:new", "f" * 64)
    facts = msgspec.structs.replace(
        facts, containers=members, checks={other.image_name: check}, grammar=GRAMMAR
    )
    moment = Moment(0.0, UTC)
    (action,) = make_plan(facts, HostSettings(), moment).actions
    assert (action.unit, action.names, action.members[0].container.id) == (UNIT, ("member",), member)
    nobody = {UNIT: Unit("loaded", is_active=True)}
    (verdict,) = make_plan(msgspec.structs.replace(facts, units=nobody), HostSettings(), moment).verdicts
    assert verdict.state == "manual"


def test_while_systemd_does_not_answer_its_containers_are_left_alone(world: World) -> None:
    of_unit(world)
    world.systemd.is_broken = True
    world.push("app", "2")
    assert world.states() == {"web": "unknown"}
    assert world.update().outcomes == ()


def test_what_podmans_own_timer_updates_is_left_to_it(world: World) -> None:
    of_unit(world, "--label", "io.containers.autoupdate=registry")
    world.systemd.loaded.add("podman-auto-update.timer")
    world.systemd.active.add("podman-auto-update.timer")
    world.push("app", "2")
    assert world.states() == {"web": "excluded"}
    assert "systemctl mask --now podman-auto-update.timer" in world.reason("web")
    world.systemd.active.remove("podman-auto-update.timer")
    assert world.states() == {"web": "outdated"}


def test_a_unit_and_a_plain_container_that_are_tied_are_only_reported(world: World) -> None:
    of_unit(world)
    world.run("--name", "side", "--network", "container:web")
    world.push("app", "2")
    assert world.states() == {"side": "manual", "web": "manual"}
    assert world.update().outcomes == ()


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_restart_that_was_killed_is_undone_by_the_next_run(world: World, when: str) -> None:
    of_unit(world)
    world.push("app", "2")
    is_dead = False

    def strike(call: str, moment: str) -> None:
        nonlocal is_dead
        is_dead = is_dead or (call, moment) == ("restart", when)
        if is_dead:
            raise Killed

    world.podman.strike = strike
    with pytest.raises(BaseExceptionGroup):
        world.update()
    world.podman.strike = no_fault
    assert [outcome.result for outcome in world.update().outcomes] == ["rolled-back", "postponed"]
    assert world.state.journals() == []
    assert (world.store.running(), world.version("web")) == (["web"], "1")
    assert [outcome.result for outcome in world.update().outcomes] == ["updated"]


# --- the real program, with a systemctl of the tests' own -----------------------------------------------

_SYSTEMCTL = """#!/bin/sh
echo "$*" >> {folder}/calls
case "$*" in
*restart*broken*) echo "Job for broken failed." >&2; exit 1 ;;
*restart*) exit 0 ;;
esac
cat {folder}/answer
"""


@pytest.fixture
def program(tmp_path: Path) -> SystemdProgram:
    (tmp_path / "systemctl").write_text(_SYSTEMCTL.format(folder=tmp_path))
    (tmp_path / "systemctl").chmod(0o755)
    (tmp_path / "proc/41").mkdir(parents=True)
    (tmp_path / "proc/41/cgroup").write_text("0::/system.slice/quadlet.service/libpod-payload-1\n")
    (tmp_path / "booted").mkdir()
    (tmp_path / "answer").write_text(
        "Id=web.service\nLoadState=loaded\nActiveState=active\nMainPID=40\nControlGroup=/system.slice/web.service\n"
        "\nId=quadlet.service\nLoadState=loaded\nActiveState=active\nMainPID=0\n"
        "ControlGroup=/system.slice/quadlet.service\n"
        "\nId=none.service\nLoadState=not-found\nActiveState=inactive\nMainPID=0\nControlGroup=\n"
    )
    user = User("root", ("env", f"PATH={tmp_path}:/usr/bin:/bin"), {"PATH": "/usr/bin:/bin"})
    return SystemdProgram(user, booted=tmp_path / "booted", processes=tmp_path / "proc")


def test_units_are_read_in_one_call_and_own_what_runs_in_their_control_group(
    program: SystemdProgram, tmp_path: Path
) -> None:
    names = ["web.service", "quadlet.service", "none.service"]
    units = asyncio.run(program.units(names, [40, 41, 42]))
    assert {name: unit.owned_pids for name, unit in units.items()} == {
        "web.service": {40},
        "quadlet.service": {41},
        "none.service": set(),
    }
    assert units["none.service"].load_state == "not-found"
    assert len((tmp_path / "calls").read_text().splitlines()) == 1


def test_an_answer_that_does_not_fit_the_question_tells_nothing(program: SystemdProgram) -> None:
    assert asyncio.run(program.units(["web.service"], [40])) == {}


def test_without_systemd_nobody_is_asked(program: SystemdProgram, tmp_path: Path) -> None:
    (tmp_path / "booted").rmdir()
    assert not program.is_here
    assert asyncio.run(program.units(["web.service"], [])) == {}
    assert not (tmp_path / "calls").exists()


def test_a_failed_restart_says_what_systemd_said(program: SystemdProgram) -> None:
    asyncio.run(program.restart("web.service"))
    with pytest.raises(SystemdError, match="Job for broken failed"):
        asyncio.run(program.restart("broken.service"))


def test_a_user_without_root_is_asked_about_their_own_units(program: SystemdProgram, tmp_path: Path) -> None:
    user = User("somebody", ("env", f"PATH={tmp_path}:/usr/bin:/bin"), {"PATH": "/usr/bin:/bin"})
    asyncio.run(SystemdProgram(user, booted=tmp_path / "booted").restart("web.service"))
    assert (tmp_path / "calls").read_text() == "--user restart -- web.service\n"
