"""The values that discovery gives."""

from collections.abc import Mapping

import msgspec

from imagechain.chain.values import Dependency, Problem, Source


class DiscoveryError(Exception):
    """There is no folder to discover in."""


class LocalProject(msgspec.Struct, frozen=True, kw_only=True):
    """One Containerfile of the tree, and all that a builder needs to know of it."""

    #: Its folder relative to the top (`.` for the top itself), with `:NAME` for `Dockerfile.NAME` and so on.
    id: str
    #: Path of the Containerfile relative to the top, with `/`.
    file: str
    #: Path of the build context relative to the top.
    context: str
    #: References that it publishes (`Reference.identity`).
    images: tuple[str, ...]
    #: Where several values are possible (a CI matrix), the first.
    build_args: Mapping[str, str]
    #: What a builder must be given: a `.in` file after the preprocessor, else the file's own bytes.
    text: bytes
    preprocessed: bool
    #: Files of the tree that the text comes from, relative to the top: its own, and what that includes.
    text_files: tuple[str, ...]
    #: Paths of the context that its build reads; None: all of it.
    context_sources: tuple[str, ...] | None
    #: What builders or the preprocessor may read otherwise; nothing that keeps the file from being built.
    warnings: tuple[Problem, ...] = ()
    #: Why the file cannot be read or built, if it cannot; also listed among the problems.
    refused: Problem | None = None


class Discovery(msgspec.Struct, frozen=True, kw_only=True):
    """The chain in a folder, or in groups of GitLab."""

    #: In the order of their ids.
    sources: tuple[Source, ...]
    #: By child, then as they are found: in the order of lines within one file.
    dependencies: tuple[Dependency, ...]
    problems: tuple[Problem, ...]
    #: Those of the problems that kept a file or a folder from being read.
    unreadable: tuple[Problem, ...]
    #: By id; the projects among the sources, if the chain is in a folder.
    projects: Mapping[str, LocalProject] = {}
