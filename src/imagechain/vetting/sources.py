"""Where the packages of an image come from: its own apt sources or apk repositories. Pure.

Formats: sources.list(5), both styles; apk-repositories(5).
"""

import re
from collections.abc import Iterable, Mapping

import msgspec

from imagechain.vetting.layers import (
    APK_REPOSITORIES,
    APT_SOURCES,
    APT_SOURCES_FOLDER,
    under,
)

#: Indexes of one image; more are refused.
INDEXES_MAX = 64
_OPTIONS = re.compile(r"\[[^\]]*\]")
_APK_ARCHITECTURES = {"amd64": "x86_64", "arm64": "aarch64", "386": "x86", "arm": "armv7"}
_DEBIAN_ARCHITECTURES = {"386": "i386", "arm": "armhf", "ppc64le": "ppc64el"}


class IndexAddress(msgspec.Struct, frozen=True, order=True):
    """One index of an archive: the address without the ending of its compression."""

    url: str
    is_security: bool


def debian_indexes(files: Mapping[str, str], architecture: str) -> list[IndexAddress]:
    """List the indexes that apt in the image would read, for an architecture as OCI names it."""
    wanted = _DEBIAN_ARCHITECTURES.get(architecture, architecture)
    found: set[IndexAddress] = set()
    one_line = [files.get(APT_SOURCES, ""), *under(files, APT_SOURCES_FOLDER, [".list"])]
    for line in "\n".join(one_line).splitlines():
        words = _OPTIONS.sub(" ", line.partition("#")[0]).split()
        if len(words) >= 3 and words[0] == "deb":
            found.update(_suite(words[1], words[2], words[3:], wanted))
    for text in under(files, APT_SOURCES_FOLDER, [".sources"]):
        for fields in _stanzas(text):
            if "deb" in fields.get("types", "").split() and fields.get("enabled", "yes") != "no":
                for uri in fields.get("uris", "").split():
                    for suite in fields.get("suites", "").split():
                        found.update(_suite(uri, suite, fields.get("components", "").split(), wanted))
    return sorted(found)


def _suite(uri: str, suite: str, components: Iterable[str], architecture: str) -> Iterable[IndexAddress]:
    is_security = "security" in suite or "security" in uri
    for component in components:
        # A suite that ends with a slash is a flat archive, which no distribution has.
        url = f"{uri.rstrip('/')}/dists/{suite.strip('/')}/{component}/binary-{architecture}/Packages"
        yield IndexAddress(url, is_security)


def _stanzas(text: str) -> list[dict[str, str]]:
    """Read deb822 stanzas with their continuation lines; names of fields in lower case."""
    stanzas: list[dict[str, str]] = [{}]
    name = ""
    for line in text.splitlines():
        if line.startswith("#"):
            continue
        if not line.strip():
            stanzas.append({})
        elif line[0].isspace():
            stanzas[-1][name] = f"{stanzas[-1].get(name, '')} {line.strip()}"
        else:
            key, _, value = line.partition(":")
            name = key.strip().lower()
            stanzas[-1][name] = value.strip()
    return [stanza for stanza in stanzas if stanza]


def alpine_indexes(files: Mapping[str, str], architecture: str) -> list[IndexAddress]:
    """List the indexes that apk in the image would read, for an architecture as OCI names it."""
    wanted = _APK_ARCHITECTURES.get(architecture, architecture)
    found = []
    for line in files.get(APK_REPOSITORIES, "").splitlines():
        address = line.partition("#")[0].strip()
        # A repository with a tag (`@edge ...`) is only for packages that name the tag.
        if address and not address.startswith("@"):
            found.append(IndexAddress(f"{address.rstrip('/')}/{wanted}/APKINDEX", is_security=True))
    return found
