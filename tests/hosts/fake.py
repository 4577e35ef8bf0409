"""A twin of podman in memory: stateful, with faults on demand; and the other ports of a host.

The same tests run on it and on the real one (`test_contract.py`). What it knows of podman was measured there:
a name is free or taken, a port or an address is, containers depend on ids, `--rm` removes what stops.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import msgspec

from imagechain.hosts.command_line import CommandLine, Grammar, parse
from imagechain.hosts.podman import PodmanError
from imagechain.hosts.systemd import SystemdError
from imagechain.hosts.values import Container, Image, Unit, decode_containers, decode_images
from registry.fakes import FakeRegistry

_OPTIONS = (Path(__file__).parent / "options-4.3.1.txt").read_text().split()


def _grammar() -> Grammar:
    valued: dict[str, bool] = {}
    short: dict[str, str] = {}
    for text in _OPTIONS:
        *letters, name = text.split(",")
        long = name.strip("-=")
        valued[long] = name.endswith("=")
        short |= {letter.strip("-"): long for letter in letters}
    return Grammar(valued, short)


#: The options of `podman create` 4.3.1.
GRAMMAR = _grammar()


#: After so long a container of a `slow` image is healthy.
SLOW_SECONDS = 20


class Killed(BaseException):
    """What `kill -9` does: nothing is done any more."""


class FakeContainer(msgspec.Struct):
    id: str
    name: str
    image: str
    line: CommandLine
    command: tuple[str, ...]
    status: str = "created"
    exit_code: int = 0
    restarts: int = 0
    pod: str = ""
    depends_on: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    unit: str = ""
    #: Unix time in seconds.
    created: float = 0.0

    def options(self, name: str) -> list[str]:
        return [option.value or "" for option in self.line.options if option.name == name]

    @property
    def auto_remove(self) -> bool:
        return any(option.name == "rm" and option.value != "false" for option in self.line.options)


class FakeStore:
    """What outlives a call: containers, images, the volumes."""

    def __init__(self, registries: Mapping[str, FakeRegistry]) -> None:
        self.registries = registries
        self.containers: dict[str, FakeContainer] = {}
        #: By id: the config, and the digests.
        self.images: dict[str, dict[str, Any]] = {}
        self.digests: dict[str, set[str]] = {}
        self.names: dict[str, str] = {}
        self.volumes: set[str] = set()
        #: Whether timers of systemd run health checks.
        self.has_timers = False
        #: What containers of an image do: `ok`, `exits`, `unhealthy`, `slow`, `restarts`.
        self.behaviour: dict[str, str] = {}
        #: Every second state of the world that was ever seen: two of one at once, or none.
        self.watch: Callable[[], None] = lambda: None
        #: The time.
        self.now: Callable[[], float] = lambda: 1_800_000_000.0
        self._ids = count(1)

    def new_id(self) -> str:
        return hashlib.sha256(str(next(self._ids)).encode()).hexdigest()

    def by_name(self, name: str) -> FakeContainer | None:
        return next((one for one in self.containers.values() if name in (one.name, one.id)), None)

    def running(self) -> list[str]:
        return sorted(one.name for one in self.containers.values() if one.status == "running")


Strike = Callable[[str, str], None]


def no_fault(call: str, when: str) -> None:
    """Let a call pass."""


class FakePodman:
    """The port."""

    def __init__(self, store: FakeStore, strike: Strike = no_fault) -> None:
        self.store = store
        #: Called before and after each call: may raise.
        self.strike = strike
        self.calls: list[str] = []

    def _begin(self, call: str) -> None:
        self.calls.append(call)
        self.strike(call, "before")

    def _end(self, call: str) -> None:
        self.store.watch()
        self.strike(call, "after")

    def _get(self, name: str) -> FakeContainer:
        found = self.store.by_name(name)
        if found is None:
            raise PodmanError(f"no container {name}")
        return found

    async def pods(self) -> Mapping[str, str]:
        self._begin("ps")
        return {one.id: one.pod for one in self.store.containers.values()}

    async def containers(self, ids: Sequence[str]) -> list[Container]:
        self._begin("container inspect")
        found = {id: self.store.by_name(id) for id in ids}
        unique = {one.id: one for one in found.values() if one is not None}
        return decode_containers(json.dumps([self._document(one) for one in unique.values()]).encode())

    async def images(self, names: Sequence[str]) -> list[Image]:
        self._begin("image inspect")
        ids = dict.fromkeys(self.store.names.get(name, name) for name in names)
        return decode_images(json.dumps([self._image(id) for id in ids if id in self.store.images]).encode())

    async def kept(self, repository: str) -> list[str]:
        self._begin("images")
        return [name for name in self.store.names if name.startswith(f"{repository}:")]

    async def grammar(self) -> Grammar:
        self._begin("help")
        return GRAMMAR

    async def pull(self, reference: str, auth_file: str) -> None:  # noqa: ARG002
        self._begin("pull")
        name, _, digest = reference.partition("@")
        host, _, repository = name.partition("/")
        self.store_image(host, repository, digest)
        self._end("pull")

    def store_image(self, host: str, repository: str, digest: str, name: str = "") -> str:
        """Fetch an image for amd64, as a pull does; give it a name, if one is told."""
        registry = self.store.registries[host]
        stored = registry.manifests[repository, digest]
        document = json.loads(stored.raw)
        known = {digest}
        if "manifests" in document:
            entry = next(e for e in document["manifests"] if e["platform"]["architecture"] == "amd64")
            known.add(entry["digest"])
            document = json.loads(registry.manifests[repository, entry["digest"]].raw)
        id: str = document["config"]["digest"].removeprefix("sha256:")
        self.store.images[id] = json.loads(registry.blobs[repository, f"sha256:{id}"])
        self.store.digests.setdefault(id, set()).update(f"{host}/{repository}@{one}" for one in known)
        if name:
            self.store.names[name] = id
        return id

    async def tag(self, image: str, reference: str) -> None:
        self._begin("tag")
        if image not in self.store.images:
            raise PodmanError(f"no image {image}")
        self.store.names[reference] = image
        self._end("tag")

    async def untag(self, reference: str) -> None:
        self._begin("untag")
        image = self.store.names.pop(reference, "")
        is_used = any(one.image == image for one in self.store.containers.values())
        if image and image not in self.store.names.values() and not is_used:
            del self.store.images[image]
        self._end("untag")

    async def create(self, argv: Sequence[str], environment: Mapping[str, str]) -> str:  # noqa: ARG002
        self._begin("create")
        made = self.make(("podman", *argv))
        self._end("create")
        return made.id

    def make(self, command: Sequence[str], *, started: bool = False, pod: str = "") -> FakeContainer:
        """Make a container as `podman create` and `podman run` do."""
        line = parse(command, GRAMMAR)
        id = self.store.new_id()
        made = FakeContainer(id, "", "", line, tuple(command), pod=pod, created=self.store.now())
        made.name = (made.options("name") or [f"random_{id[-4:]}"])[-1]
        if self.store.by_name(made.name):
            raise PodmanError(f"the name {made.name} is taken")
        made.image = self.store.names.get(line.image, line.image)
        if made.image not in self.store.images:
            raise PodmanError(f"{line.image}: image not known")
        needed = [part for text in made.options("requires") for part in text.split(",")]
        needed += [
            t.removeprefix("container:") for t in made.options("network") if t.startswith("container:")
        ]
        made.depends_on = tuple(self._get(name).id for name in needed)
        made.volumes = tuple(
            text if ":" in text else f"{self.store.new_id()}:{text}" for text in made.options("volume")
        )
        self.store.volumes.update(text.partition(":")[0] for text in made.volumes)
        self.store.containers[id] = made
        if started:
            self._launch(made)
        return made

    async def rename(self, id: str, name: str) -> None:
        self._begin("rename")
        one = self._get(id)
        if self.store.by_name(name):
            raise PodmanError(f"the name {name} is taken")
        one.name = name
        self._end("rename")

    async def start(self, id: str) -> None:
        self._begin("start")
        self._launch(self._get(id))
        self._end("start")

    def _launch(self, one: FakeContainer) -> None:
        others = [o for o in self.store.containers.values() if o.status == "running" and o.id != one.id]
        for kind in ("publish", "ip"):
            taken = {value for other in others for value in other.options(kind)}
            if taken & set(one.options(kind)):
                raise PodmanError("address already in use")
        for id in one.depends_on:
            if self.store.containers[id].status != "running":
                raise PodmanError(f"its dependency {self.store.containers[id].name} does not run")
        behaviour = self.store.behaviour.get(one.image, "ok")
        if behaviour == "refuses":
            raise PodmanError("OCI runtime error: executable file not found")
        one.status, one.exit_code = ("exited", 3) if behaviour == "exits" else ("running", 0)
        one.restarts = 1 if behaviour == "restarts" else 0
        if one.status == "exited":
            self._reap(one)

    async def stop(self, id: str) -> None:
        self._begin("stop")
        one = self.store.by_name(id)
        if one is not None and one.status == "running":
            self.halt(one)
        self._end("stop")

    def halt(self, one: FakeContainer) -> None:
        one.status = "exited"
        self._reap(one)

    def _reap(self, one: FakeContainer) -> None:
        """Remove what was made with `--rm`, unless others depend on it."""
        if one.auto_remove and not any(one.id in o.depends_on for o in self.store.containers.values()):
            del self.store.containers[one.id]

    async def remove(self, id: str) -> None:
        self._begin("rm")
        one = self.store.by_name(id)
        if one is not None:
            if any(one.id in other.depends_on for other in self.store.containers.values()):
                raise PodmanError(f"{one.name} has dependent containers")
            del self.store.containers[one.id]
        self._end("rm")

    async def is_healthy(self, id: str) -> bool:
        self._begin("healthcheck")
        return self._is_healthy(self._get(id))

    def _is_healthy(self, one: FakeContainer) -> bool:
        behaviour = self.store.behaviour.get(one.image, "ok")
        is_ready = behaviour == "slow" and self.store.now() >= one.created + SLOW_SECONDS
        return behaviour == "ok" or is_ready

    def _health(self, one: FakeContainer) -> dict[str, Any]:
        if not self.store.has_timers:
            return {"Status": "starting", "Log": None}
        return {"Status": "healthy" if self._is_healthy(one) else "unhealthy", "Log": [{"ExitCode": 0}]}

    async def last_words(self, id: str) -> str:
        self._begin("logs")
        return f"the last words of {self._get(id).name}"

    def _document(self, one: FakeContainer) -> dict[str, Any]:
        config = self.store.images[one.image].get("config", {})
        labels = dict(text.partition("=")[::2] for text in one.options("label"))
        labels |= {"PODMAN_SYSTEMD_UNIT": one.unit} if one.unit else {}
        name = next((name for name, id in self.store.names.items() if name == one.line.image), None)
        check = one.options("health-cmd")
        seconds = int((one.options("health-interval") or ["1s"])[-1].removesuffix("s"))
        mounts = [text.split(":", 2)[:2] for text in one.volumes]
        return {
            "Id": one.id,
            "Name": one.name,
            "Image": one.image,
            "Created": datetime.fromtimestamp(one.created, UTC).isoformat(),
            "ImageName": name or one.line.image,
            "State": {
                "Status": one.status,
                "ExitCode": one.exit_code,
                "Pid": 1000 if one.status == "running" else 0,
                "ConmonPid": int(one.id[:8], 16) + 5000,
                "Health": self._health(one),
            },
            "Pod": one.pod,
            "IsInfra": False,
            "RestartCount": one.restarts,
            "Dependencies": list(one.depends_on),
            "Mounts": [
                {"Type": "volume", "Name": source, "Source": f"/volumes/{source}", "Destination": destination}
                for source, destination in mounts
            ],
            "Config": {
                "Hostname": (one.options("hostname") or [one.id[:12]])[-1],
                "Env": [*config.get("Env", []), *(text for text in one.options("env") if "=" in text)],
                "Labels": {**config.get("Labels", {}), **labels},
                "CreateCommand": list(one.command),
                "Healthcheck": {"Test": ["CMD", check[-1]], "Interval": seconds * 10**9, "Retries": 2}
                if check
                else None,
            },
            "HostConfig": {
                "AutoRemove": one.auto_remove,
                "NetworkMode": (one.options("network") or ["bridge"])[-1],
                "RestartPolicy": {"Name": (one.options("restart") or [""])[-1].partition(":")[0]},
                "ReadonlyRootfs": bool([o for o in one.line.options if o.name == "read-only"]),
                "CapDrop": one.options("cap-drop"),
                "PortBindings": {},
            },
        }

    def _image(self, id: str) -> dict[str, Any]:
        config = self.store.images[id]
        return {
            "Id": id,
            "RepoTags": [name for name, image in self.store.names.items() if image == id],
            "RepoDigests": sorted(self.store.digests.get(id, set())),
            "Digest": "",
            "Architecture": config["architecture"],
            "Os": "linux",
            "Config": config.get("config", {}),
            "RootFS": {"Layers": config["rootfs"]["diff_ids"]},
            "Created": "2026-01-01T00:00:00Z",
        }


class FakeSystemd:
    """Units that make their containers anew, or do not."""

    def __init__(self, podman: FakePodman, *, is_here: bool = False) -> None:
        self.podman = podman
        self.here = is_here
        self.loaded: set[str] = set()
        self.active: set[str] = set()
        self.restarts: list[str] = []
        #: A unit that only starts the container that there is.
        self.keeps_container = False
        self.is_broken = False
        #: What each unit runs.
        self.commands: dict[str, list[tuple[str, ...]]] = {}

    @property
    def is_here(self) -> bool:
        return self.here

    async def units(self, names: Sequence[str], pids: Sequence[int]) -> Mapping[str, Unit]:  # noqa: ARG002
        if not self.here or self.is_broken:
            return {}
        return {
            name: Unit(
                "loaded" if name in self.loaded else "not-found",
                name in self.active,
                frozenset(
                    int(one.id[:8], 16) + 5000
                    for one in self.podman.store.containers.values()
                    if one.unit == name and name in self.active
                ),
            )
            for name in names
        }

    async def restart(self, name: str) -> None:
        self.restarts.append(name)
        self.podman.strike("restart", "before")
        store = self.podman.store
        commands = self.commands.setdefault(name, [])
        for one in [one for one in store.containers.values() if one.unit == name]:
            one.status = "exited"
            if self.keeps_container:
                self.podman._launch(one)
                continue
            if one.command not in commands:
                commands.append(one.command)
            del store.containers[one.id]
        for command in () if self.keeps_container else commands:
            made = self.podman.make(command)
            made.unit = name
            try:
                self.podman._launch(made)
            except PodmanError as error:
                raise SystemdError(f"Job for {name} failed: {error}") from error
            if made.status != "running":
                raise SystemdError(f"Job for {name} failed")
        self.podman.strike("restart", "after")


class FakeClock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.time = 1_800_000_000.0

    def now(self) -> float:
        return self.time

    def seconds(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self.time += seconds
