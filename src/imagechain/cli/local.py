"""What the commands of a local chain share: reading its folder and its settings."""

from collections.abc import Sequence
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from platform import machine
from typing import Literal

import msgspec

from imagechain.chain import Graph
from imagechain.cli.build_arguments import parse_build_arguments
from imagechain.cli.errors import UsageError
from imagechain.cli.settings import read_settings
from imagechain.config import ChainSettings
from imagechain.discovery import Discovery
from imagechain.discovery.local import discover
from imagechain.refs import PlatformError, ReferenceError, parse_platform, parse_reference

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
