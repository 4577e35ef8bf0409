"""The build key: what an image would be built from, hashed before it is built. Pure.

An image is pushed under its key too, so one HEAD tells whether it was built already. The digests of the
images that it reads are part of the key: when one of them moves, the key does. What RUN fetches from
elsewhere is not, and nobody can know it: packages that were updated in their archive move no key.
"""

import hashlib
from collections.abc import Mapping

import msgspec

from imagechain.images.make import BuildOptions
from imagechain.refs import Platform

#: Changed together with what goes into the key.
_KEY_VERSION = "1"
_PREFIX = "key-"
#: As many hexadecimal digits as make an accident impossible.
_DIGITS = 40


def key_tag(
    *, recipe: str, parents: Mapping[str, str], platform: Platform, options: BuildOptions, version: str
) -> str:
    """Name the tag of a build key.

    Args:
        recipe: Hash of all files that the build reads.
        parents: Digests of the images that it reads, by reference.
        platform: What it is built for.
        options: How it is built; caches and secrets change nothing.
        version: The git tag that the image is labelled with; empty: none.
    """
    parts = (_KEY_VERSION, recipe, sorted(parents.items()), str(platform), options.target or "", version)
    return f"{_PREFIX}{hashlib.sha256(msgspec.json.encode(parts)).hexdigest()[:_DIGITS]}"
