"""What the commands of a chain in GitLab share: reading its groups."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from imagechain.cli.errors import UsageError
from imagechain.cli.local import Dialect
from imagechain.cli.settings import read_service_settings
from imagechain.discovery import Discovery
from imagechain.discovery.group import discover_group
from imagechain.gitlab.client import connect
from imagechain.refs import PlatformError, parse_platform


def discover_in_groups(
    groups: Sequence[str], config: Path | None, *, platform: str | None, dialect: Dialect
) -> Discovery:
    """Read the groups that are named, or those of the settings, and find what their images are built from.

    Raises:
        UsageError: an argument is not of its form, or there is no group.
        ConfigError: the settings are wrong.
        GitLabError: GitLab does not answer, or a group cannot be read.
    """
    settings = read_service_settings(config)
    try:
        parsed_platform = parse_platform(platform) if platform else settings.policy.parsed_platforms()[0]
    except PlatformError as error:
        raise UsageError(f"--platform: {error}") from error
    if groups:
        gitlab = msgspec.structs.replace(settings.gitlab, groups=tuple(groups))
        settings = msgspec.structs.replace(settings, gitlab=gitlab)
    if not settings.gitlab.groups:
        raise UsageError("no group is named; give --group PATH, or set gitlab.groups in the settings")

    async def discover() -> Discovery:
        async with connect(settings.gitlab, os.environ, is_patient=False) as client:
            scan = await discover_group(client, settings, cache={}, platform=parsed_platform, dialect=dialect)
            return scan.discovery

    return asyncio.run(discover())
