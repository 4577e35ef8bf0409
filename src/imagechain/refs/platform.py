"""Platforms (`linux/arm/v7`), normalised as containerd does (containerd/platforms, `database.go`)."""

import re

import msgspec

_COMPONENT = re.compile(r"[A-Za-z0-9_.-]+")
_OS_NAMES = {"macos": "darwin"}
_KNOWN_OS = frozenset({"darwin", "freebsd", "linux", "netbsd", "openbsd", "windows"})
#: Names of architectures that people write, and what OCI images call them: (architecture, variant).
_ARCHITECTURES: dict[str, tuple[str, str]] = {
    "i386": ("386", ""),
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
}
_DEFAULT_VARIANTS = {("arm64", "v8"): "", ("arm64", "8"): "", ("amd64", "v1"): ""}
_KNOWN_ARCHITECTURES = frozenset({"386", "amd64", "arm", "arm64", "loong64", "ppc64le", "riscv64", "s390x"})
_PARTS_MAX = 3


class PlatformError(ValueError):
    """A text that is not a platform; the message says what is wrong with it."""


class Platform(msgspec.Struct, frozen=True, order=True):
    """An operating system and an architecture, in OCI's words."""

    os: str
    architecture: str
    #: Variant of the architecture, such as `v7`; empty where there is none.
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


def parse_platform(text: str) -> Platform:
    """Parse `os/architecture[/variant]`, or only an operating system or an architecture.

    Raises:
        PlatformError: the text is not a platform.
    """
    parts = text.split("/")
    if len(parts) > _PARTS_MAX or not all(_COMPONENT.fullmatch(part) for part in parts):
        raise PlatformError(f"invalid platform {text!r}: write it like linux/amd64 or linux/arm/v7")
    if len(parts) == 1:
        return _parse_single(parts[0], text)
    architecture, variant = _normalise_architecture(parts[1], parts[2] if len(parts) == _PARTS_MAX else "")
    return Platform(_normalise_os(parts[0]), architecture, variant)


def parse_architecture(text: str) -> Platform:
    """Parse an architecture of images for Linux, as jobs are told in IMAGE_ARCH: `arm64`, or `arm/v6`.

    Raises:
        PlatformError: there is none of that name.
    """
    architecture, _, variant = text.partition("/")
    architecture, variant = _normalise_architecture(architecture, variant)
    if architecture not in _KNOWN_ARCHITECTURES or (variant and not _COMPONENT.fullmatch(variant)):
        known = ", ".join(sorted(_KNOWN_ARCHITECTURES))
        raise PlatformError(f"unknown architecture {text!r}: write one of {known}")
    return Platform("linux", architecture, variant)


def _parse_single(part: str, text: str) -> Platform:
    os = _normalise_os(part)
    if os in _KNOWN_OS:
        return Platform(os, "amd64")
    architecture, variant = _normalise_architecture(part, "")
    if architecture in _KNOWN_ARCHITECTURES:
        return Platform("linux", architecture, variant)
    raise PlatformError(f"unknown platform {text!r}: write it like linux/amd64 or linux/arm/v7")


def _normalise_os(os: str) -> str:
    return _OS_NAMES.get(os.lower(), os.lower())


def _normalise_architecture(architecture: str, variant: str) -> tuple[str, str]:
    architecture, variant = architecture.lower(), variant.lower()
    if architecture in _ARCHITECTURES:
        architecture, implied = _ARCHITECTURES[architecture]
        variant = variant or implied
    if architecture == "arm":
        # An arm without a variant is the common v7, as in containerd.
        variant = {"": "v7", "8": "v8", "7": "v7", "6": "v6", "5": "v5"}.get(variant, variant)
    variant = _DEFAULT_VARIANTS.get((architecture, variant), variant)
    return architecture, variant
