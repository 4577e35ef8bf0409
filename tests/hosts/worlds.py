"""A host in memory: registry, podman, systemd and clock, all of them fakes with state."""

import asyncio
from datetime import UTC
from pathlib import Path

import msgspec

from hosts.fake import FakeClock, FakePodman, FakeStore, FakeSystemd
from imagechain.config import HostSettings
from imagechain.config.values import Duration
from imagechain.hosts.host import Host
from imagechain.hosts.podman import User
from imagechain.hosts.run import Result, survey, update
from imagechain.hosts.state import StateFolder
from imagechain.registry import RegistryClient
from registry.fakes import FakeRegistry, Network
from registry.pictures import Stored, make_image, make_index, sha256

HOST = "registry.example.com"


class World:
    """One host."""

    def __init__(self, folder: Path) -> None:
        self.registry = FakeRegistry()
        self.store = FakeStore({HOST: self.registry})
        self.podman = FakePodman(self.store)
        self.systemd = FakeSystemd(self.podman)
        self.clock = FakeClock()
        self.store.now = self.clock.now
        self.settings = HostSettings(settle=Duration(2))
        self.state = StateFolder(folder / "hosts/root")

    def set(self, **changes: object) -> None:
        self.settings = msgspec.structs.replace(self.settings, **changes)

    def push(self, repository: str, version: str, *, index: bool = False, other: str = "") -> Stored:
        """Push a version under `latest`; `other` is the version of another platform."""
        image = make_image(labels={"version": version}, layers=[version.encode()])
        stored = image
        if index:
            foreign = make_image(architecture="arm64", layers=[(other or version).encode()])
            stored = make_index({"linux/amd64": image, "linux/arm64": foreign})
        self.registry.push(repository, stored, "latest")
        return stored

    def pull(self, repository: str) -> str:
        """Pull `latest` as a person does."""
        digest = self.registry.tags[repository]["latest"]
        return self.podman.store_image(HOST, repository, digest, f"{HOST}/{repository}:latest")

    def run(self, *options: str, image: str = "app", command: tuple[str, ...] = ()) -> str:
        """`podman run`; return the id."""
        made = self.podman.make(
            ("podman", "run", "-d", *options, f"{HOST}/{image}:latest", *command), started=True
        )
        return made.id

    def behave(self, image: Stored, how: str) -> None:
        """Say what containers of an image do."""
        one = image.children[0] if image.children else image
        self.store.behaviour[sha256(one.blobs[0]).removeprefix("sha256:")] = how

    def host(self) -> Host:
        def make_client(auth_file: Path | None) -> RegistryClient:
            return RegistryClient(transport=Network({HOST: self.registry}))

        return Host(
            user=User("root", (), {"PATH": "/usr/bin:/bin"}),
            podman=self.podman,
            systemd=self.systemd,
            state=self.state,
            make_client=make_client,
            settings=self.settings,
            clock=self.clock,
            timezone=UTC,
        )

    def update(self, *asked: str) -> Result:
        result = asyncio.run(update(self.host(), frozenset(asked), lambda _: None))
        print(*result.outcomes, sep="\n")  # noqa: T201 - pytest shows it where a test fails
        return result

    def survey(self, *asked: str) -> Result:
        return asyncio.run(survey(self.host(), frozenset(asked)))

    def version(self, name: str) -> str:
        one = self.store.by_name(name)
        assert one is not None, f"{name} is lost"
        version: str = self.store.images[one.image]["config"]["Labels"]["version"]
        return version

    def states(self) -> dict[str, str]:
        return {verdict.container.name: verdict.state for verdict in self.survey().plan.verdicts}

    def reason(self, name: str) -> str:
        return next(v.reason for v in self.survey().plan.verdicts if v.container.name == name)

    def names(self) -> list[str]:
        return sorted(one.name for one in self.store.containers.values())
