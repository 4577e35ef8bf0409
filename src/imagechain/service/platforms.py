"""One version for an image of several platforms, and what it says of each. Pure.

An image for one platform has the content key of that platform as its version: what was written before there
were more, and what a label says, stays valid.
"""

from collections.abc import Mapping


def join_platforms(contents: Mapping[str, str]) -> str:
    """Make one version of the content keys of an image, by platform: `linux/amd64=sha256:…,linux/arm64=…`.

    Args:
        contents: at least one.
    """
    if len(contents) == 1:
        return next(iter(contents.values()))
    return ",".join(f"{platform}={content}" for platform, content in sorted(contents.items()))


def is_part_of(recorded: str, present: str) -> bool:
    """Tell whether all that a label records of an image is what the image still has.

    A content key tells its platform, so that it need not be looked for under the same one: a build for arm64
    may well read the amd64 image of its compiler (`FROM --platform=$BUILDPLATFORM`).
    """
    return _contents(recorded) <= _contents(present)


def _contents(version: str) -> frozenset[str]:
    return frozenset(part.rpartition("=")[2] for part in version.split(","))
