"""`registries.conf`: where an image is fetched from, which is not what it is called.

An image keeps its name in the graph whatever mirror serves it: remapping is of access only
(containers-registries.conf(5)). Mirrors are tried in their order, the registry itself last. Short-name
aliases are not read: all references here are full ones.
"""

import os
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import msgspec

from imagechain.refs import DEFAULT_DOMAIN, Reference, ReferenceError, parse_reference
from imagechain.registry.errors import BlockedError, ConfigurationError

#: Largest file that is read.
FILE_BYTES_MAX = 1024 * 1024
#: Files of a `registries.conf.d` that are read.
FILES_MAX = 1_000
#: The host that serves docker.io.
_DOCKER_HUB_HOST = "registry-1.docker.io"
_WILDCARD = "*."


class Endpoint(msgspec.Struct, frozen=True):
    """A repository on the host that is really asked."""

    #: Registry host, with its port if it has one, as logins name it: `docker.io`.
    domain: str
    path: str
    insecure: bool = False

    @property
    def origin(self) -> str:
        """Scheme and host of its URLs."""
        host = _DOCKER_HUB_HOST if self.domain == DEFAULT_DOMAIN else self.domain
        return f"{'http' if self.insecure else 'https'}://{host}"

    @property
    def url(self) -> str:
        """The beginning of the URLs of all that is in the repository."""
        return f"{self.origin}/v2/{self.path}"

    def __str__(self) -> str:
        return f"{self.domain}/{self.path}"


class Mirror(msgspec.Struct, frozen=True, rename="kebab"):
    """A table `[[registry.mirror]]`."""

    location: str
    insecure: bool = False
    pull_from_mirror: Literal["all", "digest-only", "tag-only", ""] = ""


class RegistryTable(msgspec.Struct, frozen=True, rename="kebab"):
    """A table `[[registry]]`."""

    prefix: str = ""
    location: str = ""
    insecure: bool = False
    blocked: bool = False
    mirror_by_digest_only: bool = False
    mirror: tuple[Mirror, ...] = ()

    def __post_init__(self) -> None:
        """Refuse a table that matches nothing, or cannot be rewritten to."""
        if not self.prefix and not self.location:
            raise ValueError("a [[registry]] has neither prefix nor location")
        if self.prefix.startswith(_WILDCARD) and self.location:
            raise ValueError(f"the prefix {self.prefix!r} has a wildcard, so it can have no location")

    @property
    def matched(self) -> str:
        """The prefix of the names that the table is about."""
        return self.prefix or self.location


class _File(msgspec.Struct, frozen=True):
    registry: tuple[RegistryTable, ...] = ()
    #: The old form of the file, of before 2018.
    registries: Any = None


class Registries(msgspec.Struct, frozen=True):
    """The tables of all files; of two with one prefix, the one read last."""

    tables: tuple[RegistryTable, ...] = ()

    def endpoints(self, reference: Reference) -> tuple[Endpoint, ...]:
        """List where an image is fetched from, the mirrors first.

        Raises:
            BlockedError: registries.conf blocks it.
            ConfigurationError: a location makes no valid name of it.
        """
        primary = Endpoint(reference.domain, reference.path)
        matches = [(length, table) for table in self.tables if (length := _match(table.matched, reference))]
        if not matches:
            return (primary,)
        length, table = max(matches, key=lambda match: match[0])
        if table.blocked:
            raise BlockedError(
                str(reference),
                f"registries.conf blocks {table.matched}",
                "take `blocked` away there, or build on another image",
            )
        used = [mirror for mirror in table.mirror if _serves(table, mirror, reference)]
        places = [(mirror.location, mirror.insecure) for mirror in used] + [(table.location, table.insecure)]
        rest = reference.name[length:]
        found = [_endpoint(location, rest, insecure, reference) for location, insecure in places]
        return tuple(dict.fromkeys(found))


def _match(prefix: str, reference: Reference) -> int:
    """Tell how much of a reference's name a prefix matches; 0: it does not match."""
    if prefix.startswith(_WILDCARD):
        return len(reference.domain) if reference.domain.endswith(prefix[1:]) else 0
    written = str(reference)
    if not written.startswith(prefix) or (written[len(prefix) :] and written[len(prefix)] not in "/:@"):
        return 0
    # A colon after the host begins its port: another registry.
    if len(prefix) < len(reference.domain):
        return 0
    return min(len(prefix), len(reference.name))


def _serves(table: RegistryTable, mirror: Mirror, reference: Reference) -> bool:
    by_digest = reference.digest is not None
    if table.mirror_by_digest_only or mirror.pull_from_mirror == "digest-only":
        return by_digest
    return not (by_digest and mirror.pull_from_mirror == "tag-only")


def _endpoint(location: str, rest: str, insecure: bool, reference: Reference) -> Endpoint:
    name = location + rest if location else reference.name
    try:
        full = parse_reference(name)
    except ReferenceError:
        full = None
    if full is None or full.name != name:
        problem = f"registries.conf leads to {name!r}, which is no full name of a repository"
        raise ConfigurationError(str(reference), problem, f"mend the location {location!r} there")
    return Endpoint(full.domain, full.path, insecure)


def read_registries(environ: Mapping[str, str], system: Path = Path("/etc/containers")) -> Registries:
    """Read the files where podman looks for them: those of the user or else of the system, then the drop-ins.

    Raises:
        ConfigurationError: a file cannot be read, or is wrong.
    """
    user = Path(environ.get("XDG_CONFIG_HOME") or Path(environ.get("HOME") or "/") / ".config") / "containers"
    if named := environ.get("CONTAINERS_REGISTRIES_CONF"):
        files = [Path(named)]
    else:
        own = user / "registries.conf"
        files = [own if os.path.lexists(own) else system / "registries.conf"]
        for folder in (system / "registries.conf.d", user / "registries.conf.d"):
            files += sorted(folder.glob("*.conf"))[:FILES_MAX]
    return Registries(_merge([_read(file) for file in files if file.exists()]))


def _merge(files: Sequence[tuple[RegistryTable, ...]]) -> tuple[RegistryTable, ...]:
    return tuple({table.matched: table for tables in files for table in tables}.values())


def _read(file: Path) -> tuple[RegistryTable, ...]:
    try:
        with file.open("rb") as stream:
            data = stream.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigurationError(
            str(file), f"cannot be read: {error.strerror}", "give read access"
        ) from error
    if len(data) > FILE_BYTES_MAX:
        raise ConfigurationError(str(file), f"is larger than {FILE_BYTES_MAX} bytes", "is it the right file?")
    try:
        content = msgspec.convert(tomllib.loads(data.decode()), _File)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(str(file), f"is no registries.conf: {error}", "mend it") from error
    if content.registries is not None:
        raise ConfigurationError(
            str(file),
            "is in the old form with [registries.search]",
            "write it with [[registry]] tables (containers-registries.conf(5))",
        )
    return content.registry
