"""Random faults, each with a seed: never a container lost, never two of one.

Runs are killed before and after any call of podman, calls fail before and after they took effect, the disk
is full, the registry fails. Runs follow each other until one was left in peace. A failing seed is told by
pytest; `pytest -k seeds-17` replays its block.
"""

import asyncio
import contextlib
import random
from pathlib import Path

import msgspec
import pytest

from hosts.fake import Killed, no_fault
from hosts.worlds import World
from imagechain.hosts.podman import PodmanError
from imagechain.hosts.run import update
from imagechain.hosts.state import Journal, Memory, StateError, StateFolder
from imagechain.hosts.values import OLD_SUFFIX, SPARE_SUFFIX
from registry.fakes import answers, drops

FAULTS = 1_000
BLOCKS = 20
_RUNS_MAX = 12
#: About as many calls as one update makes.
_CALLS = 40


class Disk(StateFolder):
    """A state folder on a disk that may be full."""

    is_full_at = -1
    writes = 0

    def _count(self) -> None:
        self.writes += 1
        if self.writes == self.is_full_at:
            raise StateError("no space left on device")

    def write(self, journal: Journal) -> None:
        self._count()
        super().write(journal)

    def remember(self, memory: Memory) -> None:
        self._count()
        super().remember(memory)


class Chaos:
    """One world, and what strikes it."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.random = random.Random(seed)  # noqa: S311 - a seed must give the same world again
        self.world = World(folder)
        self.disk = Disk(folder / "hosts/root")
        self.world.state = self.disk
        self.world.set(rollbacks_max=self.random.choice([1, 2, 9]), parallel=self.random.choice([1, 1, 3]))
        self.calls = 0
        self.strike_at = -1
        self.how = ""
        self.is_dead = False
        self.names: list[str] = []
        self.fit: dict[str, bool] = {}
        #: Whether units of systemd make the containers, each its own.
        self.has_units = self.random.random() < 0.25
        self.world.systemd.here = self.world.store.has_timers = self.has_units
        self._populate()
        self.world.podman.strike = self._strike
        self.world.store.watch = self._watch

    def _populate(self) -> None:
        world = self.world
        for number in range(self.random.randint(1, 3)):
            name = f"c{number}"
            world.push(name, f"{name}-1", index=self.random.random() < 0.3)
            world.pull(name)
            options = [
                f"--publish={8000 + number}:80",
                f"--read-only={self.random.choice(['true', 'false'])}",
            ]
            options += ["--volume=/data"] * (self.random.random() < 0.5)
            options += ["--health-cmd=true"] * (self.random.random() < 0.3)
            if not self.has_units:
                options += ["--rm"] * (self.random.random() < 0.3)
                if self.names and self.random.random() < 0.5:
                    options.append(f"--requires={self.random.choice(self.names)}")
            id = world.run("--name", name, *options, image=name)
            if self.has_units:
                world.store.containers[id].unit = f"{name}.service"
                world.systemd.loaded.add(f"{name}.service")
                world.systemd.active.add(f"{name}.service")
            self.names.append(name)
            self.fit[name] = True
        for name in self.names:
            if self.random.random() < 0.7:
                stored = world.push(name, f"{name}-2")
                how = self.random.choice(["ok", "ok", "exits", "refuses", "unhealthy", "restarts"])
                checks = world.store.by_name(name).options("health-cmd")  # type: ignore[union-attr]
                self.fit[name] = how == "ok" or (how == "unhealthy" and not checks)
                world.behave(stored, how)

    def _strike(self, call: str, when: str) -> None:
        if self.is_dead:
            raise Killed
        self.calls += 1
        if self.calls != self.strike_at:
            return
        if self.how == "kill":
            self.is_dead = True
            raise Killed
        if self.how == "fail":
            raise PodmanError(f"podman {call}: something went wrong {when} it")

    def _watch(self) -> None:
        """At no time may one be lost, or two of one run."""
        for name in self.names:
            kin = [self.world.store.by_name(n) for n in (name, name + OLD_SUFFIX, name + SPARE_SUFFIX)]
            alive = [one for one in kin if one is not None]
            # A unit removes its container before it makes another one.
            assert alive or self.has_units, f"{name} is lost"
            assert len([one for one in alive if one.status == "running"]) <= 1, f"{name} runs twice"

    def run(self) -> None:
        """Let one run be struck, or not."""
        self.calls, self.is_dead, self.disk.writes, self.disk.is_full_at = 0, False, 0, -1
        self.world.registry.faults.clear()
        self.how = self.random.choice(["kill", "kill", "kill", "fail", "disk", "registry"])
        self.strike_at = self.random.randint(1, _CALLS) if self.how in {"kill", "fail"} else -1
        if self.how == "disk":
            self.disk.is_full_at = self.random.randint(1, 4)
        if self.how == "registry":
            self.world.registry.fault(
                self.random.choice([drops, answers(500), answers(429), answers(401)]),
                times=self.random.randint(1, 4),
            )
        with contextlib.suppress(PodmanError, StateError):
            try:
                self.world.update()
            except* Killed:
                pass
        self._watch()

    def rest(self) -> None:
        """Let runs pass in peace until nothing is left to do."""
        self.world.registry.faults.clear()
        self.calls, self.strike_at, self.is_dead, self.disk.is_full_at = 0, -1, False, -1
        for _ in range(_RUNS_MAX):
            if not self.world.update().outcomes:
                return
        raise AssertionError("runs do not come to an end")

    def check(self) -> None:
        world = self.world
        assert world.names() == self.names
        assert world.store.running() == self.names
        assert self.disk.journals() == []
        ids = {one.id for one in world.store.containers.values()}
        for name in self.names:
            one = world.store.by_name(name)
            assert one is not None
            assert set(one.depends_on) <= ids
            assert self.fit[name] or world.version(name).endswith("-1"), f"{name} runs what is broken"
        states = world.states()
        assert set(states.values()) <= {"current", "held"}, states


@pytest.mark.parametrize("block", range(BLOCKS), ids=lambda block: f"seeds-{block}")
def test_no_fault_loses_a_container_or_doubles_one(block: int, tmp_path: Path) -> None:
    struck = 0
    seed = block * 1_000_000
    while struck < FAULTS // BLOCKS:
        seed += 1
        chaos = Chaos(seed, tmp_path / str(seed))
        try:
            for _ in range(chaos.random.randint(1, 3)):
                chaos.run()
                struck += 1
            chaos.rest()
            chaos.check()
        except AssertionError as error:
            error.add_note(f"seed {seed}, {msgspec.json.encode(chaos.names).decode()}")
            raise


@pytest.mark.parametrize("failures", [0, 1, 2, 9])
def test_an_interrupted_update_is_undone_though_podman_may_fail_meanwhile(
    tmp_path: Path, failures: int
) -> None:
    world = World(tmp_path)
    world.push("app", "1")
    world.pull("app")
    old = world.run("--name", "web")
    world.push("app", "2")
    left = [PodmanError("podman rm: the container is in use")] * failures

    async def interrupted() -> None:
        running = asyncio.create_task(update(world.host(), frozenset(), lambda _: None))

        def strike(call: str, when: str) -> None:
            if call == "start" and when == "before" and not running.cancelling():
                running.cancel()
                raise asyncio.CancelledError
            if call == "rm" and when == "before" and left:
                raise left.pop()

        world.podman.strike = strike
        with pytest.raises(asyncio.CancelledError):
            await running
        world.podman.strike = no_fault

    asyncio.run(interrupted())
    web = world.store.by_name("web")
    is_undone = web is not None and web.id == old and web.status == "running"
    assert is_undone == (failures < 3)
    assert (world.state.journals() == []) == is_undone
    world.update()
    assert world.version("web") == ("2" if is_undone else "1")
    assert world.state.journals() == []
    assert [one.name for one in world.store.containers.values()] == ["web"]
