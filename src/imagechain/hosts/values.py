"""Containers and images as podman's `inspect` tells them, decoded once; pure.

Only what is used is decoded. `document` keeps the whole answer, for the comparison of old and new alone.
"""

from datetime import datetime
from typing import Literal

import msgspec

from imagechain.hosts.command_line import is_service

#: Appended to the name of a container that waits until its successor has passed the gate.
OLD_SUFFIX = "-imagechain-old"
#: A copy of a container that podman removes as soon as it stops (`--rm`): what would come back instead of it.
SPARE_SUFFIX = "-imagechain-spare"
#: Repository under which previous images keep a name, so that `podman image prune` leaves them.
KEPT_REPOSITORY = "localhost/imagechain-rollback"

#: Written by imagechain's own settings: true or false.
UPDATE_LABEL = "dev.imagechain.update"
AUTOUPDATE_LABEL = "io.containers.autoupdate"
AUTHFILE_LABEL = "io.containers.autoupdate.authfile"
UNIT_LABEL = "PODMAN_SYSTEMD_UNIT"


class Health(msgspec.Struct, frozen=True, rename="pascal"):
    """What podman says of a container's health."""

    status: str = ""
    #: The last checks; only whether there were any is of interest.
    log: tuple[msgspec.Raw, ...] | None = None


class State(msgspec.Struct, frozen=True, rename="pascal"):
    """What a container does."""

    status: str = ""
    exit_code: int = 0
    pid: int = 0
    conmon_pid: int = 0
    started_at: str = ""
    health: Health | None = None


class HealthCheck(msgspec.Struct, frozen=True, rename="pascal"):
    """How a container's health is found out. Times in nanoseconds."""

    test: tuple[str, ...] | None = None
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    retries: int = 0


class Config(msgspec.Struct, frozen=True, rename="pascal"):
    """What a container was made with."""

    hostname: str = ""
    env: tuple[str, ...] | None = None
    labels: dict[str, str] | None = None
    healthcheck: HealthCheck | None = None
    create_command: tuple[str, ...] | None = None


class RestartPolicy(msgspec.Struct, frozen=True, rename="pascal"):
    """When podman starts it again."""

    name: str = ""


class PortBinding(msgspec.Struct, frozen=True, rename="pascal"):
    """Where a port is published."""

    host_ip: str = ""
    host_port: str = ""


class HostConfig(msgspec.Struct, frozen=True, rename="pascal"):
    """What a container was made with, of the host."""

    auto_remove: bool = False
    network_mode: str = ""
    volumes_from: tuple[str, ...] | None = None
    restart_policy: RestartPolicy = RestartPolicy()
    port_bindings: dict[str, tuple[PortBinding, ...] | None] | None = None


class Mount(msgspec.Struct, frozen=True, rename="pascal"):
    """A volume or a folder of the host in a container."""

    type: str = ""
    name: str = ""
    source: str = ""
    destination: str = ""


class Container(msgspec.Struct, frozen=True, rename="pascal"):
    """A container of podman."""

    id: str
    name: str
    #: Id of its image.
    image: str = ""
    #: The reference that it was made from, as podman completed it.
    image_name: str = ""
    created: datetime | None = None
    state: State = State()
    config: Config = Config()
    host_config: HostConfig = HostConfig()
    mounts: tuple[Mount, ...] = ()
    #: Id of its pod.
    pod: str = ""
    is_infra: bool = False
    #: Whether it stands for a whole `podman kube play` in a systemd unit.
    is_service: bool = False
    #: Ids of the containers that it cannot be without.
    dependencies: tuple[str, ...] | None = None
    restart_count: int = 0
    document: msgspec.Raw = msgspec.Raw(b"{}")
    #: Name of its pod: `inspect` does not tell it, `ps` does.
    pod_name: str = ""

    @property
    def is_running(self) -> bool:
        """Whether its process runs."""
        return self.state.status == "running"

    @property
    def is_helper(self) -> bool:
        """Whether podman made it for other containers: it runs no image that anybody follows."""
        return self.is_infra or self.is_service

    @property
    def command(self) -> tuple[str, ...]:
        """The command that made it; empty: it was made through podman's API."""
        command = self.config.create_command or ()
        return () if is_service(command) else command

    @property
    def labels(self) -> dict[str, str]:
        """Its labels, those of its image among them."""
        return self.config.labels or {}

    @property
    def has_healthcheck(self) -> bool:
        """Whether there is a command that tells its health."""
        check = self.config.healthcheck
        return check is not None and bool(check.test) and check.test != ("NONE",)

    @property
    def is_crashed(self) -> bool:
        """Whether it ended with an error though it was meant to be started again."""
        is_wanted = self.host_config.restart_policy.name not in {"", "no"}
        return self.state.status in {"exited", "stopped"} and self.state.exit_code != 0 and is_wanted


class ImageConfig(msgspec.Struct, frozen=True, rename="pascal"):
    """What an image gives to containers."""

    env: tuple[str, ...] | None = None
    labels: dict[str, str] | None = None


class Image(msgspec.Struct, frozen=True, rename="pascal"):
    """An image in podman's store."""

    id: str
    repo_tags: tuple[str, ...] | None = None
    repo_digests: tuple[str, ...] | None = None
    digest: str = ""
    created: datetime | None = None
    architecture: str = ""
    os: str = ""
    variant: str = ""
    config: ImageConfig | None = None
    document: msgspec.Raw = msgspec.Raw(b"{}")

    @property
    def digests(self) -> frozenset[str]:
        """All digests that it is known by: of indexes and of its own manifest, in any repository."""
        written = {text.rpartition("@")[2] for text in self.repo_digests or ()}
        return frozenset(written | ({self.digest} if self.digest else set()))


def decode_containers(data: bytes) -> list[Container]:
    """Read what `podman container inspect` printed.

    Raises:
        msgspec.DecodeError: it is not that.
    """
    return [
        msgspec.structs.replace(_container_decoder.decode(raw), document=raw.copy())
        for raw in _list_decoder.decode(data)
    ]


def decode_images(data: bytes) -> list[Image]:
    """Read what `podman image inspect` printed.

    Raises:
        msgspec.DecodeError: it is not that.
    """
    return [
        msgspec.structs.replace(_image_decoder.decode(raw), document=raw.copy())
        for raw in _list_decoder.decode(data)
    ]


_list_decoder = msgspec.json.Decoder(list[msgspec.Raw])
_container_decoder = msgspec.json.Decoder(Container)
_image_decoder = msgspec.json.Decoder(Image)


class Moved(msgspec.Struct, frozen=True):
    """The registry has something new for this host's platform."""

    #: What the tag names: of an index, or of the manifest.
    digest: str
    #: Of the platform's manifest.
    platform_digest: str
    #: Id that the image will have here: the digest of its config.
    image_id: str


class Unmoved(msgspec.Struct, frozen=True):
    """What the tag names holds the image that runs."""

    digest: str


class Unchecked(msgspec.Struct, frozen=True):
    """Nobody knows: never to be shown as "current"."""

    why: str


#: What came of looking for something newer than an image.
Check = Moved | Unmoved | Unchecked


class Unit(msgspec.Struct, frozen=True):
    """What systemd says of the unit that a container's label names."""

    #: `loaded`, `not-found`, `masked`, ...
    load_state: str
    is_active: bool
    #: Main processes of containers that run within it.
    owned_pids: frozenset[int] = frozenset()


#: Who makes a container anew: its unit, its own command, or only a person.
Owner = Literal["unit", "pod", "compose", "command", "person"]

VerdictState = Literal[
    "current", "outdated", "waiting", "held", "pinned", "excluded", "manual", "stopped", "unknown"
]


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """What is to be said of one container."""

    container: Container
    state: VerdictState
    reason: str
    owner: Owner
    #: What it would be updated to.
    moved: Moved | None = None
