"""What must hold on any podman: the same tests on the real one and on its twin, which other tests rely on."""

from itertools import count
from pathlib import Path
from typing import Protocol

import pytest

from hosts.machines import HostMachine
from hosts.worlds import World
from registry.servers import free_port

_numbers = count()
#: What an image of each kind runs.
_COMMANDS = {
    "ok": 'CMD ["sleep", "1000"]',
    "exits": 'CMD ["sh", "-c", "exit 3"]',
    "refuses": 'CMD ["/missing"]',
}


class Scene(Protocol):
    """A host, and the people around it."""

    def push(self, version: str, *, name: str = "app", how: str = "ok") -> None: ...

    def pull(self, *, name: str = "app") -> None: ...

    def run(self, *options: str, name: str = "app") -> None: ...

    def update(self, *asked: str) -> list[tuple[str, ...]]: ...

    def version(self, container: str) -> str: ...

    def names(self) -> list[str]: ...

    def running(self) -> list[str]: ...

    def id(self, container: str) -> str: ...

    def images(self) -> int: ...

    def states(self) -> dict[str, str]: ...


class FakeScene:
    """The twin."""

    def __init__(self, world: World) -> None:
        self.world = world

    def push(self, version: str, *, name: str = "app", how: str = "ok") -> None:
        self.world.behave(self.world.push(name, version), how)

    def pull(self, *, name: str = "app") -> None:
        self.world.pull(name)

    def run(self, *options: str, name: str = "app") -> None:
        self.world.run(*options, image=name)

    def update(self, *asked: str) -> list[tuple[str, ...]]:
        return [(one.result, *one.containers) for one in self.world.update(*asked).outcomes]

    def version(self, container: str) -> str:
        return self.world.version(container)

    def names(self) -> list[str]:
        return self.world.names()

    def running(self) -> list[str]:
        return self.world.store.running()

    def id(self, container: str) -> str:
        found = self.world.store.by_name(container)
        assert found is not None
        return found.id

    def images(self) -> int:
        return len(self.world.store.images)

    def states(self) -> dict[str, str]:
        return self.world.states()


class RealScene:
    """podman, docker-registry and the command."""

    def __init__(self, host: HostMachine) -> None:
        self.host = host
        self.folder = f"scene-{next(_numbers)}"

    def push(self, version: str, *, name: str = "app", how: str = "ok") -> None:
        # Pushed from elsewhere: this host's name for it stays where it was.
        self.host.push(f"{self.folder}/{name}", version=version, changes=(_COMMANDS[how],))

    def pull(self, *, name: str = "app") -> None:
        self.host.podman("pull", "--quiet", self._reference(name))

    def run(self, *options: str, name: str = "app") -> None:
        self.host.podman("run", "--detach", "--init", "--stop-timeout=2", *options, self._reference(name))

    def _reference(self, name: str) -> str:
        return f"{self.host.registry.host}/{self.folder}/{name}:latest"

    def update(self, *asked: str) -> list[tuple[str, ...]]:
        told = self.host.update(*asked)
        return [(one["result"], *one["containers"]) for one in told["outcomes"]]

    def version(self, container: str) -> str:
        return self.host.version(container)

    def names(self) -> list[str]:
        return self.host.names()

    def running(self) -> list[str]:
        return sorted(self.host.podman("ps", "--format={{.Names}}").split())

    def id(self, container: str) -> str:
        return str(self.host.podman("container", "inspect", "--format={{.Id}}", container).strip())

    def images(self) -> int:
        listed = self.host.podman("images", "--all", "--quiet", "--no-trunc").split()
        return len(set(listed))

    def states(self) -> dict[str, str]:
        return {row["name"]: row["state"] for row in self.host.status()}


@pytest.fixture(params=["twin", "podman"])
def scene(request: pytest.FixtureRequest, tmp_path: Path) -> Scene:
    if request.param == "twin":
        return FakeScene(World(tmp_path))
    return RealScene(request.getfixturevalue("real"))


def test_a_moved_image_is_taken_over(scene: Scene) -> None:
    scene.push("1")
    scene.pull()
    scene.run("--name=web", f"--publish=127.0.0.1:{free_port()}:80", "--volume=/data")
    assert scene.states() == {"web": "current"}
    scene.push("2")
    assert scene.states() == {"web": "outdated"}
    assert scene.update() == [("updated", "web")]
    assert (scene.names(), scene.running(), scene.version("web")) == (["web"], ["web"], "2")
    assert scene.update() == []
    assert scene.states() == {"web": "current"}


def test_a_broken_image_is_rolled_back_held_and_forgotten_when_it_changes(scene: Scene) -> None:
    scene.push("1")
    scene.pull()
    scene.run("--name=web", f"--publish=127.0.0.1:{free_port()}:80")
    scene.push("2", how="exits")
    assert scene.update() == [("rolled-back", "web")]
    assert (scene.names(), scene.running(), scene.version("web")) == (["web"], ["web"], "1")
    assert scene.update() == []
    assert scene.states() == {"web": "held"}
    scene.push("3")
    assert scene.update() == [("updated", "web")]
    assert scene.version("web") == "3"


def test_containers_that_need_each_other_are_made_anew_together(scene: Scene) -> None:
    for name in ("db", "app"):
        scene.push("1", name=name)
        scene.pull(name=name)
    scene.run("--name=db", name="db")
    scene.run("--name=app", "--requires=db", "--network=container:db", name="app")
    scene.push("2", name="db")
    assert scene.update() == [("updated", "db", "app")]
    assert (scene.names(), scene.running()) == (["app", "db"], ["app", "db"])
    assert (scene.version("db"), scene.version("app")) == ("2", "1")
    scene.push("3", name="app", how="exits")
    assert scene.update() == [("rolled-back", "app")]
    assert (scene.names(), scene.running()) == (["app", "db"], ["app", "db"])
    scene.push("4", name="db", how="refuses")
    assert scene.update() == [("rolled-back", "db", "app")]
    assert (scene.names(), scene.running()) == (["app", "db"], ["app", "db"])
    assert (scene.version("db"), scene.version("app")) == ("2", "1")


def test_a_name_with_which_the_id_of_another_container_begins_comes_back(scene: Scene) -> None:
    """As `db` is: podman takes the other one for it while no container has the name."""
    for name in ("app", "db"):
        scene.push("1", name=name)
        scene.pull(name=name)
    scene.run("--name=other", name="app")
    begin = scene.id("other")[:2]
    scene.run(f"--name={begin}", name="db")
    scene.push("2", name="db", how="exits")
    assert scene.update() == [("rolled-back", begin)]
    assert scene.names() == scene.running() == sorted(["other", begin])
    scene.push("3", name="db")
    assert scene.update() == [("updated", begin)]
    assert scene.names() == scene.running() == sorted(["other", begin])
    assert (scene.version("other"), scene.version(begin)) == ("1", "3")


def test_what_podman_removes_when_it_stops_comes_back(scene: Scene) -> None:
    scene.push("1")
    scene.pull()
    scene.run("--name=web", "--rm")
    scene.push("2", how="exits")
    assert scene.update() == [("rolled-back", "web")]
    assert (scene.names(), scene.running(), scene.version("web")) == (["web"], ["web"], "1")
    scene.push("3")
    assert scene.update() == [("updated", "web")]
    assert (scene.names(), scene.running(), scene.version("web")) == (["web"], ["web"], "3")


def test_one_previous_image_is_kept(scene: Scene) -> None:
    scene.push("1")
    scene.pull()
    scene.run("--name=web")
    counts = []
    for version in ("2", "3"):
        scene.push(version)
        assert scene.update() == [("updated", "web")]
        counts.append(scene.images())
    assert counts == [2, 2]
