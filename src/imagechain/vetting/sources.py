"""Where the packages of an image come from: its own apt sources or apk repositories. Pure.

Formats: sources.list(5), both styles; apk-repositories(5).
"""

import re
from collections.abc import Iterable, Mapping

import msgspec

from imagechain.vetting.layers import (
    APK_REPOSITORIES,
    APK_REPOSITORY_FOLDERS,
    APT_SOURCES,
    APT_SOURCES_FOLDER,
    LayerError,
    under,
)

#: Indexes of one image; more are refused.
INDEXES_MAX = 64
_APK_ENDING = ".tar.gz"
_OPTIONS = re.compile(r"\[[^\]]*\]")
_APK_VARIABLE = re.compile(r"\$\{(\w+)\}")


class IndexAddress(msgspec.Struct, frozen=True, order=True):
    """One index of an archive: the address without the ending of its compression."""

    url: str
    is_security: bool


def debian_indexes(files: Mapping[str, str], architecture: str) -> list[IndexAddress]:
    """List the indexes that apt in the image would read, for an architecture as Debian names it."""
    found: set[IndexAddress] = set()
    one_line = [files.get(APT_SOURCES, ""), *under(files, APT_SOURCES_FOLDER, [".list"])]
    for line in "\n".join(one_line).splitlines():
        words = _OPTIONS.sub(" ", line.partition("#")[0]).split()
        if len(words) >= 3 and words[0] == "deb":
            found.update(_suite(words[1], words[2], words[3:], architecture))
    for text in under(files, APT_SOURCES_FOLDER, [".sources"]):
        for fields in _stanzas(text):
            if "deb" in fields.get("types", "").split() and fields.get("enabled", "yes") != "no":
                for uri in fields.get("uris", "").split():
                    for suite in fields.get("suites", "").split():
                        found.update(_suite(uri, suite, fields.get("components", "").split(), architecture))
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
    """List the indexes that apk in the image would read, for an architecture as Alpine names it.

    Raises:
        LayerError: one is in apk's newer format.
    """
    found: list[IndexAddress] = []
    variables = {"APK_ARCH": architecture}
    for line in "\n".join([files.get(APK_REPOSITORIES, ""), *_repository_lists(files)]).splitlines():
        words = [
            _APK_VARIABLE.sub(lambda match: variables.get(match[1], ""), word)
            for word in line.partition("#")[0].split()
        ]
        if words[:1] == ["set"]:
            name, _, value = words[-1].partition("=")
            variables[name] = variables.get(name, value) if "-default" in words else value
            continue
        kind = words.pop(0) if words[:1] in (["v2"], ["v3"], ["ndx"]) else ""
        # A repository with a tag (`@edge ...`) is only for packages that name the tag.
        if not words or words[0].startswith("@"):
            continue
        base = words[0].rstrip("/")
        if kind == "v3" or base.endswith(".adb"):
            raise LayerError(f"{base} has an index in the format of apk 3, which is not read")
        if base.endswith(_APK_ENDING):
            found.append(IndexAddress(base.removesuffix(_APK_ENDING), is_security=True))
            continue
        bases = [f"{base}/{component}" for component in words[1:]] or [base]
        found += [IndexAddress(f"{one}/{architecture}/APKINDEX", is_security=True) for one in bases]
    return found


def _repository_lists(files: Mapping[str, str]) -> list[str]:
    """Give the texts of further lists, by name; of two with one name the first counts."""
    lists: dict[str, str] = {}
    for folder in APK_REPOSITORY_FOLDERS:
        for name, text in files.items():
            if name.startswith(folder) and name.endswith(".list"):
                lists.setdefault(name.removeprefix(folder), text)
    return [text for _, text in sorted(lists.items())]
