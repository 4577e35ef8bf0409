"""What the commands of a local chain share: reading its folder and its settings."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from platform import machine
from typing import Annotated, Literal

import msgspec
from cyclopts import Parameter

from imagechain.chain import Graph
from imagechain.cli.errors import UsageError
from imagechain.config import FILE_NAME, ChainSettings, Settings, load_settings
from imagechain.discovery import Discovery, discover
from imagechain.refs import PlatformError, ReferenceError, parse_platform, parse_reference

BuildArguments = Annotated[
    tuple[str, ...], Parameter(name="--build-arg", negative=(), consume_multiple=False)
]
Dialect = Literal["buildkit", "buildah"]


def discover_local(
    directory: Path,
    *,
    platform: str | None = None,
    target: str | None = None,
    dialect: Dialect = "buildkit",
    build_arguments: Sequence[str] = (),
    prefix: str | None = None,
) -> Discovery:
    """Read a folder's settings, then find its images and what they are built from.

    Without a `platform` it is built for this machine's. `prefix` is where its images are published, if the
    settings do not say so.

    Raises:
        UsageError: an argument is not of its form.
        ConfigError: the settings are wrong.
        DiscoveryError: the folder cannot be read.
    """
    here = parse_platform(f"linux/{machine()}")
    try:
        wanted = here if platform is None else parse_platform(platform)
    except PlatformError as error:
        raise UsageError(f"--platform: {error}") from error
    settings = read_settings(directory)
    if prefix is not None and settings.chain.prefix == ChainSettings().prefix:
        settings = msgspec.structs.replace(
            settings, chain=msgspec.structs.replace(settings.chain, prefix=prefix)
        )
    return discover(
        directory,
        settings,
        platform=wanted,
        build_platform=here,
        target=target,
        dialect=dialect,
        build_args=parse_build_arguments(build_arguments),
    )


def read_settings(directory: Path) -> Settings:
    """Read the settings of the chain in `directory`; without a file, the defaults."""
    file = directory / FILE_NAME
    return load_settings(file if file.exists() else None, os.environ)


def parse_build_arguments(arguments: Sequence[str]) -> Mapping[str, str]:
    """Split `NAME=VALUE` arguments.

    Raises:
        UsageError: one of them is of another form.
    """
    values: dict[str, str] = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not equals or not name:
            raise UsageError(f"--build-arg {argument}: write it as NAME=VALUE")
        values[name] = value
    return values


def find_sources(graph: Graph, names: Sequence[str]) -> list[str]:
    """Find the sources that a person means: by id, folder, or a reference that they publish.

    Raises:
        UsageError: one of the names is none of these.
    """
    publishers = {image: source.id for source in graph.sources for image in source.images}
    found = []
    for name in names:
        folder = name.removeprefix("./").rstrip("/") or "."
        known = [id for id in (name, folder) if id in graph.number]
        with suppress(ReferenceError):
            known += [publishers[image] for image in (parse_reference(name).identity,) if image in publishers]
        if not known:
            near = get_close_matches(name, [*graph.ids, *publishers], n=1)
            hint = f"did you mean {near[0]}?" if near else "`imagechain scan` lists all of them"
            raise UsageError(f"there is no image {name!r} in this chain; {hint}")
        found.append(known[0])
    return found
