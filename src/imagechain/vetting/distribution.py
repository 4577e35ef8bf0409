"""Which distribution an image holds, and until when that is supported. Pure.

From its `os-release` (os-release(5)), or without reading a layer from what its history says.
"""

import re
import shlex
import tomllib
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime

import msgspec

OS_RELEASE_BYTES_MAX = 64 * 1024

#: How official Debian and Ubuntu images name their release, and Debian's the state of the archive.
_DEBIAN_HISTORY = re.compile(r"# debian\.sh --arch '[^']*' out/ '([^']*)' '@(\d{1,12})'")
_ALPINE_HISTORY = re.compile(r"\balpine-minirootfs-(\d+\.\d+)(?:\.\d+)*")
#: Versions of Debian's releases; in an image's history only the code names stand.
_DEBIAN_CODENAMES = {"buster": "10", "bullseye": "11", "bookworm": "12", "trixie": "13", "forky": "14"}


class ReleasesError(ValueError):
    """A file of ends of life that cannot be read; the message says why."""


class Distribution(msgspec.Struct, frozen=True):
    """A distribution's release, by the names of os-release."""

    id: str
    version: str
    codename: str = ""

    def __str__(self) -> str:
        return f"{self.id} {self.version}".strip()


class Support(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Until when a release gets security updates."""

    until: date
    #: Of a longer support, free of charge.
    extended: date | None = None

    @property
    def end(self) -> date:
        """The last day on which somebody mends it for everybody."""
        return max(self.until, self.extended or self.until)


class Snapshot(msgspec.Struct, frozen=True):
    """What the history of an image says of its distribution."""

    distribution: Distribution | None = None
    #: The state of the archive that it was made from, Unix seconds.
    archive_at: float | None = None


def read_os_release(text: str) -> Distribution | None:
    """Read an os-release; None where it names no distribution."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        name, equals, value = line.strip().partition("=")
        if equals and name.isidentifier():
            try:
                fields[name] = "".join(shlex.split(value))
            except ValueError:
                continue
    if not fields.get("ID"):
        return None
    return Distribution(fields["ID"], fields.get("VERSION_ID", ""), fields.get("VERSION_CODENAME", ""))


def read_history(created_by: Sequence[str]) -> Snapshot:
    """Read what the lowest layers of an image say of where they come from."""
    for line in created_by:
        if match := _DEBIAN_HISTORY.search(line):
            codename = match[1]
            version = _DEBIAN_CODENAMES.get(codename)
            found = Distribution("debian", version, codename) if version else None
            return Snapshot(found, float(match[2]))
        if match := _ALPINE_HISTORY.search(line):
            return Snapshot(Distribution("alpine", match[1]))
    return Snapshot()


def read_releases(text: str) -> dict[str, dict[str, Support]]:
    """Read a table of ends of life: by id, by version.

    Raises:
        ReleasesError: it is not of the form of the one that comes with imagechain.
    """
    try:
        return msgspec.convert(tomllib.loads(text), dict[str, dict[str, Support]])
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise ReleasesError(f"not a table of ends of life: {error}") from error


def find_support(releases: Mapping[str, Mapping[str, Support]], found: Distribution) -> Support | None:
    """Look a release up: by its whole version, then by ever less of it (`3.21.3`, `3.21`, `3`)."""
    table = releases.get(found.id, {})
    parts = found.version.split(".")
    for count in range(len(parts), 0, -1):
        if support := table.get(".".join(parts[:count])):
            return support
    return None


def is_over(support: Support, now: float) -> bool:
    """Tell whether the support has ended."""
    return datetime.fromtimestamp(now, UTC).date() > support.end
