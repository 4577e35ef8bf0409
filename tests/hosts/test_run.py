"""What a run does with the containers of a host, on the twin of podman."""

from pathlib import Path

import pytest

from hosts.worlds import HOST, World
from imagechain.config import HostHooks
from imagechain.config.values import Duration
from registry.fakes import answers, drops


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def started(world: World, *options: str, name: str = "web") -> str:
    world.push("app", "1")
    world.pull("app")
    return world.run("--name", name, *options)


def test_a_moved_image_is_taken_over_and_the_old_container_goes(world: World) -> None:
    old = started(world, "--read-only")
    world.push("app", "2")
    result = world.update()
    assert [outcome.result for outcome in result.outcomes] == ["updated"]
    assert world.version("web") == "2"
    assert world.names() == ["web"]
    assert world.store.by_name("web").id != old  # type: ignore[union-attr]
    assert world.states() == {"web": "current"}


def test_nothing_moved_costs_three_calls_of_podman_and_one_head_for_each_image(world: World) -> None:
    for number in range(40):
        world.push(f"app-{number}", "1", index=number % 2 == 0)
        world.pull(f"app-{number}")
    for number in range(100):
        world.run("--name", f"c{number}", image=f"app-{number % 40}")
    result = world.update()
    assert result.outcomes == ()
    assert world.podman.calls == ["ps", "container inspect", "image inspect"]
    assert len(world.registry.asked("HEAD")) == 40
    assert world.registry.asked("GET") == []
    assert set(world.states().values()) == {"current"}


def test_an_index_that_moved_for_others_costs_one_get_once_and_no_restart(world: World) -> None:
    world.push("app", "1", index=True)
    world.pull("app")
    id = world.run("--name", "web")
    world.push("app", "1", index=True, other="2")
    assert world.update().outcomes == ()
    assert len(world.registry.asked("GET")) == 1
    world.podman.calls.clear()
    assert world.update().outcomes == ()
    assert len(world.registry.asked("GET")) == 1
    assert world.podman.calls == ["ps", "container inspect", "image inspect"]
    assert world.store.by_name("web").id == id  # type: ignore[union-attr]


def test_an_image_that_was_pushed_from_elsewhere_with_other_layers_of_the_same_content_restarts_nothing(
    world: World,
) -> None:
    # Compressed again: another manifest, the same config.
    started(world)
    stored = world.push("app", "1")
    again = type(stored)(stored.raw.replace(b"\n", b"\n "), stored.media_type, stored.blobs)
    world.registry.push("app", again, "latest")
    assert again.digest != stored.digest
    assert world.update().outcomes == ()
    assert world.states() == {"web": "current"}


@pytest.mark.parametrize("how", ["exits", "restarts", "refuses"])
def test_a_broken_image_is_rolled_back_and_held_until_it_changes(world: World, how: str) -> None:
    old = started(world, "--publish", "80:80", "--ip", "10.0.0.7")
    world.behave(world.push("app", "2"), how)
    result = world.update()
    assert [outcome.result for outcome in result.outcomes] == ["rolled-back"]
    assert world.store.running() == ["web"]
    assert world.store.by_name("web").id == old  # type: ignore[union-attr]
    assert world.names() == ["web"]
    assert world.states() == {"web": "held"}
    assert world.update().outcomes == ()
    world.push("app", "3")
    assert [outcome.result for outcome in world.update().outcomes] == ["updated"]
    assert world.version("web") == "3"
    assert world.state.memory().held == {}


def test_a_person_who_names_a_container_tries_a_held_digest_again(world: World) -> None:
    started(world)
    broken = world.push("app", "2")
    world.behave(broken, "exits")
    world.update()
    world.behave(broken, "ok")
    assert [outcome.result for outcome in world.update("web").outcomes] == ["updated"]
    assert world.version("web") == "2"


def test_an_unhealthy_container_is_rolled_back_by_checks_of_our_own(world: World) -> None:
    started(world, "--health-cmd", "true")
    world.behave(world.push("app", "2"), "unhealthy")
    outcome = world.update().outcomes[0]
    assert outcome.result == "rolled-back"
    assert "health check failed 2 times" in outcome.why
    assert outcome.log == "the last words of web"
    assert world.version("web") == "1"


def test_what_could_not_be_checked_is_never_current(world: World) -> None:
    started(world)
    for reply in (drops, answers(401), answers(404), answers(429), answers(500)):
        world.registry.faults.clear()
        world.registry.fault(reply)
        assert world.states() == {"web": "unknown"}
        assert "could not be checked" in world.reason("web")
        assert world.update().outcomes == ()
        assert world.store.running() == ["web"]


def test_an_image_that_a_mirror_served_under_another_name_is_current(world: World) -> None:
    started(world)
    for digests in world.store.digests.values():
        served = {text.replace(HOST, "docker.io") for text in digests}
        digests.clear()
        digests.update(served)
    assert world.states() == {"web": "current"}
    assert world.registry.asked("GET") == []


def test_a_registry_that_lies_about_a_digest_is_not_believed(world: World) -> None:
    started(world)
    world.push("app", "2")
    world.registry.fault(answers(200, {"docker-content-digest": "sha256:" + "0" * 64}), method="HEAD")
    assert world.states() == {"web": "unknown"}


def test_a_run_stops_after_rollbacks_max(world: World) -> None:
    for name in ("a", "b", "c"):
        world.push(name, "1")
        world.pull(name)
        world.run("--name", name, image=name)
        world.behave(world.push(name, f"{name}-2"), "exits")
    results = {outcome.containers[0]: outcome.result for outcome in world.update().outcomes}
    assert results == {"a": "rolled-back", "b": "postponed", "c": "postponed"}
    world.set(rollbacks_max=5)
    assert len([one for one in world.update().outcomes if one.result == "rolled-back"]) == 2


def test_at_most_parallel_containers_are_made_anew_at_once(world: World) -> None:
    for number in range(6):
        world.push(f"i{number}", "1")
        world.pull(f"i{number}")
        world.run("--name", f"c{number}", image=f"i{number}")
        world.push(f"i{number}", "2")
    most = 0

    def watch() -> None:
        nonlocal most
        most = max(most, len([name for name in world.names() if name.endswith("-imagechain-old")]))

    world.store.watch = watch
    world.set(parallel=3)
    assert {outcome.result for outcome in world.update().outcomes} == {"updated"}
    assert 1 <= most <= 3


def test_a_cool_down_counts_from_when_the_digest_was_first_seen_here(world: World) -> None:
    world.set(cooldown=Duration(3600))
    started(world)
    world.push("app", "2")
    assert world.update().outcomes == ()
    assert world.states() == {"web": "waiting"}
    world.clock.time += 3000
    assert world.update().outcomes == ()
    assert "600 s more" in world.reason("web")
    world.clock.time += 700
    assert [outcome.result for outcome in world.update().outcomes] == ["updated"]


def test_outside_of_a_window_nothing_is_touched(world: World) -> None:
    started(world)
    world.push("app", "2")
    world.clock.time = 1_800_014_400.0  # 12:00 UTC
    world.set(windows=("* 2-4 * * *",))
    assert world.update().outcomes == ()
    assert world.states() == {"web": "waiting"}
    world.clock.time += 15 * 3600
    assert [outcome.result for outcome in world.update().outcomes] == ["updated"]


def test_labels_opt_out_and_in(world: World) -> None:
    world.push("app", "1")
    world.pull("app")
    world.run("--name", "out", "--label", "dev.imagechain.update=false")
    world.run("--name", "off", "--label", "io.containers.autoupdate=disabled")
    world.run("--name", "in", "--label", "dev.imagechain.update=true")
    world.run("--name", "auto", "--label", "io.containers.autoupdate=registry")
    world.run("--name", "plain")
    world.push("app", "2")
    assert world.states() == {
        "out": "excluded",
        "off": "excluded",
        "in": "outdated",
        "auto": "outdated",
        "plain": "outdated",
    }
    world.set(select="labelled")
    assert world.states() | {} == {
        "out": "excluded",
        "off": "excluded",
        "in": "outdated",
        "auto": "outdated",
        "plain": "excluded",
    }


def test_containers_that_need_an_updated_one_are_made_anew_with_it(world: World) -> None:
    for name in ("db", "app", "side"):
        world.push(name, "1")
        world.pull(name)
    world.run("--name", "db", image="db")
    world.run("--name", "app", "--requires", "db", image="app")
    side = world.run("--name", "side", "--network", "container:app", image="side")
    world.push("db", "2")
    outcome = world.update().outcomes[0]
    assert (outcome.result, outcome.containers) == ("updated", ("db", "app", "side"))
    assert world.names() == ["app", "db", "side"]
    assert world.store.running() == ["app", "db", "side"]
    assert [world.version(name) for name in ("db", "app", "side")] == ["2", "1", "1"]
    new = world.store.by_name("side")
    assert new is not None
    assert new.id != side
    assert new.depends_on == (world.store.by_name("app").id,)  # type: ignore[union-attr]


def test_a_broken_dependent_brings_the_whole_group_back(world: World) -> None:
    for name in ("db", "app"):
        world.push(name, "1")
        world.pull(name)
    ids = [
        world.run("--name", "db", image="db"),
        world.run("--name", "app", "--requires", "db", image="app"),
    ]
    world.push("db", "2")
    world.behave(world.push("app", "2"), "exits")
    assert [outcome.result for outcome in world.update().outcomes] == ["rolled-back"]
    assert [world.store.by_name(name).id for name in ("db", "app")] == ids  # type: ignore[union-attr]
    assert world.store.running() == ["app", "db"]


def test_a_container_that_podman_removes_when_it_stops_comes_back_all_the_same(world: World) -> None:
    started(world, "--rm", "--volume", "/data")
    volume = world.store.by_name("web").volumes  # type: ignore[union-attr]
    broken = world.push("app", "2")
    world.behave(broken, "exits")
    assert [outcome.result for outcome in world.update().outcomes] == ["rolled-back"]
    assert (world.names(), world.store.running(), world.version("web")) == (["web"], ["web"], "1")
    assert world.store.by_name("web").volumes == volume  # type: ignore[union-attr]
    world.push("app", "3")
    assert [outcome.result for outcome in world.update().outcomes] == ["updated"]
    assert (world.names(), world.store.running(), world.version("web")) == (["web"], ["web"], "3")
    assert world.store.by_name("web").volumes == volume  # type: ignore[union-attr]


def test_a_crashed_container_is_updated_and_a_stopped_one_is_left_alone(world: World) -> None:
    for name, code in (("crashed", 1), ("stopped", 0)):
        started(world, "--restart", "on-failure:3", name=name)
        one = world.store.by_name(name)
        assert one is not None
        one.status, one.exit_code = "exited", code
    world.push("app", "2")
    assert world.states() == {"crashed": "outdated", "stopped": "stopped"}
    world.update()
    assert (world.version("crashed"), world.version("stopped")) == ("2", "1")
    assert world.store.running() == ["crashed"]


def test_an_image_of_this_host_is_taken_over_when_its_name_moves(world: World) -> None:
    world.push("app", "1")
    world.store.names["localhost/app:latest"] = world.pull("app")
    world.podman.make(("podman", "run", "--name", "web", "localhost/app:latest"), started=True)
    assert world.states() == {"web": "current"}
    world.push("app", "2")
    world.store.names["localhost/app:latest"] = world.pull("app")
    assert [outcome.result for outcome in world.update().outcomes] == ["updated"]
    assert world.version("web") == "2"
    assert world.registry.requests == []


def test_pinned_and_nameless_images_are_told_and_not_asked_for(world: World) -> None:
    digest = world.push("app", "1").digest
    id = world.pull("app")
    world.store.names[f"{HOST}/app@{digest}"] = id
    world.podman.make(("podman", "run", "--name", "pinned", f"{HOST}/app@{digest}"), started=True)
    world.podman.make(("podman", "run", "--name", "nameless", id), started=True)
    assert world.states() == {"pinned": "pinned", "nameless": "manual"}
    assert "has no name" in world.reason("nameless")
    assert world.registry.requests == []


def test_a_container_without_a_command_is_reported_with_what_to_run(world: World) -> None:
    started(world)
    world.store.by_name("web").command = ()  # type: ignore[union-attr]
    world.push("app", "2")
    assert world.states() == {"web": "manual"}
    assert f"podman pull {HOST}/app:latest" in world.reason("web")
    assert world.update().outcomes == ()


def test_old_images_keep_a_name_and_go_when_there_are_too_many(world: World) -> None:
    started(world)
    kept = []
    for version in ("2", "3", "4"):
        world.push("app", version)
        world.clock.time += 60
        world.update()
        kept.append(sorted(name for name in world.store.names if "imagechain-rollback" in name))
    assert [len(names) for names in kept] == [1, 1, 1]
    assert len(set(map(tuple, kept))) == 3
    assert len(world.store.images) == 2
    world.set(keep_images=0)
    world.push("app", "5")
    world.update()
    assert len(world.store.images) == 1


def test_a_hook_before_can_postpone_and_a_hook_after_can_bring_the_old_one_back(
    world: World, tmp_path: Path
) -> None:
    started(world)
    world.push("app", "2")
    world.set(hooks=HostHooks(before=("false",)))
    assert [outcome.result for outcome in world.update().outcomes] == ["postponed"]
    assert world.version("web") == "1"
    script = tmp_path / "after"
    script.write_text("#!/bin/sh\necho $IMAGECHAIN_CONTAINERS said no >&2\nexit 4\n")
    script.chmod(0o755)
    world.set(hooks=HostHooks(after=(str(script),)))
    outcome = world.update().outcomes[0]
    assert outcome.result == "rolled-back"
    assert "exit code 4: web said no" in outcome.why
    assert world.version("web") == "1"


def test_somebody_who_changes_a_container_meanwhile_is_not_overrun(world: World) -> None:
    started(world)
    world.push("app", "2")

    def strike(call: str, when: str) -> None:
        if call == "help":
            world.store.by_name("web").status = "exited"  # type: ignore[union-attr]

    world.podman.strike = strike
    assert [outcome.result for outcome in world.update().outcomes] == ["postponed"]
    assert (world.version("web"), world.store.running()) == ("1", [])
