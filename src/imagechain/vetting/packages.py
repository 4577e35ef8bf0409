"""Which packages of an image the archive has in a newer version. Pure.

Formats: dpkg's status file (dpkg(1), deb822(5)), apk's installed database (apk-tools), and the indexes of
their archives. Versions of Debian are compared by its policy, section 5.6.12. An index of Alpine holds one
version of each package: whatever else is installed there is behind.
"""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import msgspec

_FOR_ALL_ARCHITECTURES = frozenset({"", "all", "noarch"})
_DIGITS = re.compile(r"(\d+)")


class Package(msgspec.Struct, frozen=True, order=True):
    """A package in one version."""

    name: str
    version: str
    architecture: str = ""


class Lagging(msgspec.Struct, frozen=True, order=True):
    """A package that is behind its archive."""

    name: str
    installed: str
    available: str
    #: Whether the newer version is a security update.
    is_security: bool


class Index(msgspec.Struct, frozen=True, kw_only=True):
    """What one index of an archive has."""

    packages: tuple[Package, ...]
    is_security: bool


def read_dpkg_status(text: str) -> list[Package]:
    """Read which packages are installed, from dpkg's status or a file of its `status.d` (distroless)."""
    return [
        _package(fields)
        for fields in _paragraphs(text)
        # In `status.d` there is no Status: what is there is installed.
        if fields.get("Status", "install ok installed").endswith(" installed") and "Version" in fields
    ]


def read_debian_index(text: str) -> list[Package]:
    """Read a `Packages` file."""
    return [_package(fields) for fields in _paragraphs(text) if "Version" in fields]


def _package(fields: Mapping[str, str]) -> Package:
    return Package(fields.get("Package", ""), fields["Version"], fields.get("Architecture", ""))


def _paragraphs(text: str) -> Iterator[dict[str, str]]:
    """Split deb822 text; only the first line of each field is kept, for no field here has more."""
    fields: dict[str, str] = {}
    for line in text.splitlines():
        if not line.strip():
            if fields:
                yield fields
            fields = {}
        elif not line[0].isspace():
            name, _, value = line.partition(":")
            fields[name] = value.strip()
    if fields:
        yield fields


def read_apk(text: str) -> list[Package]:
    """Read apk's database of installed packages, or an `APKINDEX`: both have the same fields."""
    found = []
    for block in re.split(r"\n\s*\n", text):
        fields = dict(line.split(":", 1) for line in block.splitlines() if line[1:2] == ":")
        if "P" in fields and "V" in fields:
            found.append(Package(fields["P"], fields["V"], fields.get("A", "")))
    return found


def architecture_of(installed: Iterable[Package]) -> str:
    """Tell for which architecture packages are made, as their archive names it; empty: for any."""
    named = Counter(
        package.architecture for package in installed if package.architecture not in _FOR_ALL_ARCHITECTURES
    )
    return max(named, key=lambda name: (named[name], name), default="")


def is_any_known(installed: Iterable[Package], indexes: Iterable[Index]) -> bool:
    """Tell whether any of the packages is in an index at all: else nothing was compared."""
    known = {package.name for index in indexes for package in index.packages}
    return any(package.name in known for package in installed)


def lagging_debian(installed: Iterable[Package], indexes: Iterable[Index]) -> list[Lagging]:
    """List the packages that an archive has in a higher version."""
    newest: dict[tuple[str, str], tuple[str, bool]] = {}
    for index in indexes:
        for package in index.packages:
            key = (package.name, package.architecture)
            known = newest.get(key)
            if known is None or compare_debian(package.version, known[0]) > 0:
                newest[key] = (package.version, index.is_security)
            elif package.version == known[0] and index.is_security:
                newest[key] = (package.version, True)
    found = []
    for package in installed:
        available = newest.get((package.name, package.architecture))
        if available is not None and compare_debian(available[0], package.version) > 0:
            found.append(Lagging(package.name, package.version, *available))
    return sorted(found)


def lagging_alpine(installed: Iterable[Package], indexes: Iterable[Index]) -> list[Lagging]:
    """List the packages whose version no index has any more; each newer one may be a security update."""
    offered: dict[str, list[str]] = {}
    for index in indexes:
        for package in index.packages:
            offered.setdefault(package.name, []).append(package.version)
    return sorted(
        Lagging(package.name, package.version, offered[package.name][-1], is_security=True)
        for package in installed
        if package.name in offered and package.version not in offered[package.name]
    )


def compare_debian(left: str, right: str) -> int:
    """Compare two versions of Debian packages: below 0, 0, or above 0."""
    left_epoch, left_upstream, left_revision = _split_version(left)
    right_epoch, right_upstream, right_revision = _split_version(right)
    if left_epoch != right_epoch:
        return -1 if left_epoch < right_epoch else 1
    return _compare_part(left_upstream, right_upstream) or _compare_part(left_revision, right_revision)


def _split_version(version: str) -> tuple[int, str, str]:
    epoch, colon, rest = version.partition(":")
    if not colon or not epoch.isdecimal():
        epoch, rest = "0", version
    upstream, dash, revision = rest.rpartition("-")
    return int(epoch), upstream if dash else rest, revision if dash else "0"


def _compare_part(left: str, right: str) -> int:
    """Compare by turns what is no digit, by character, and what is one, by value."""
    left_parts, right_parts = _DIGITS.split(left), _DIGITS.split(right)
    for position in range(max(len(left_parts), len(right_parts))):
        mine = left_parts[position] if position < len(left_parts) else ""
        theirs = right_parts[position] if position < len(right_parts) else ""
        is_number = position % 2 == 1
        difference = int(mine or 0) - int(theirs or 0) if is_number else _compare_text(mine, theirs)
        if difference:
            return difference
    return 0


def _compare_text(left: str, right: str) -> int:
    for position in range(max(len(left), len(right))):
        difference = _order(left[position : position + 1]) - _order(right[position : position + 1])
        if difference:
            return difference
    return 0


def _order(character: str) -> int:
    """Tildes come before the end, the end before letters, letters before all else."""
    if character == "~":
        return -1
    if not character:
        return 0
    return ord(character) if character.isalpha() else ord(character) + 256
