"""What the commands of a local chain share: reading its folder and its settings."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from imagechain.cli.errors import UsageError
from imagechain.config import FILE_NAME, Settings, load_settings
from imagechain.discovery import Discovery, discover
from imagechain.refs import PlatformError, parse_platform

BuildArguments = Annotated[tuple[str, ...], Parameter(name="--build-arg", negative=(), consume_multiple=False)]
Dialect = Literal["buildkit", "buildah"]


def discover_local(
    directory: Path,
    *,
    platform: str = "linux/amd64",
    target: str | None = None,
    dialect: Dialect = "buildkit",
    build_arguments: Sequence[str] = (),
) -> Discovery:
    """Read a folder's settings, then find its images and what they are built from.

    Raises:
        UsageError: an argument is not of its form.
        ConfigError: the settings are wrong.
        DiscoveryError: the folder cannot be read.
    """
    try:
        parsed_platform = parse_platform(platform)
    except PlatformError as error:
        raise UsageError(f"--platform: {error}") from error
    return discover(
        directory,
        read_settings(directory),
        platform=parsed_platform,
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
