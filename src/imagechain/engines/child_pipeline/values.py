"""The values that child pipelines are made of."""

from collections.abc import Mapping

import msgspec

from imagechain.images.ignorefile import IgnoreRules


class ChildPipelineError(Exception):
    """No pipeline can be written for these images; the message says which one is why, and what to do."""


class Parent(msgspec.Struct, frozen=True, order=True):
    """An image of the same repository that another is built from."""

    #: The normalised reference as its Containerfile gives it.
    reference: str
    #: Name of the image.
    image: str


class Reads(msgspec.Struct, frozen=True, kw_only=True):
    """What a build reads of the repository; a change of it is a reason to build."""

    #: The Containerfile, what that includes, and the files that may say what is ignored.
    files: frozenset[str]
    #: Folder of the build context, relative to the top.
    context: str
    #: Paths and patterns in the context; None: any file of it.
    sources: tuple[str, ...] | None
    #: What of the context no build sees.
    ignored: IgnoreRules = IgnoreRules()
    #: More paths, as in the variable CHANGES.
    more: tuple[str, ...] = ()


class PipelineImage(msgspec.Struct, frozen=True, kw_only=True):
    """One image that a pipeline may build: a Containerfile with one combination of its matrix."""

    #: Name below the address of the repository's registry (IMAGE_NAME); jobs are called after it.
    name: str
    file: str
    context: str
    #: Build arguments of its combination.
    build_args: Mapping[str, str]
    #: Empty: it is built once, for whatever its job runs on.
    arches: tuple[str, ...]
    #: Images of the same repository that it is built from, in order.
    parents: tuple[Parent, ...]
    reads: Reads
