"""What `vet` and `mirror sync` vet images with: an examiner by the settings."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import resources
from pathlib import Path

from imagechain.config import ConfigError, Settings
from imagechain.registry import RegistryClient
from imagechain.vetting.archive import Archive
from imagechain.vetting.distribution import ReleasesError, read_releases
from imagechain.vetting.examine import Examiner, Releases
from imagechain.vetting.history import History


@asynccontextmanager
async def open_examiner(
    settings: Settings, client: RegistryClient, history: History
) -> AsyncIterator[Examiner]:
    """Vet images while the block runs.

    Raises:
        ConfigError: the file with more ends of life cannot be read.
    """
    releases = _releases(settings)
    async with Archive(settings.vet.archives) as archive:
        yield Examiner(client, archive, history, settings=settings.vet, releases=releases, clock=time.time)


def _releases(settings: Settings) -> Releases:
    """Read the ends of life that come with imagechain, and those of the settings on top."""
    releases = read_releases((resources.files("imagechain.vetting") / "releases.toml").read_text())
    own = settings.vet.releases_file
    if own:
        try:
            more = read_releases(Path(own).read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, ReleasesError) as error:
            raise ConfigError(f"vet.releases_file {own}: {error}") from error
        for id, versions in more.items():
            releases[id] = releases.get(id, {}) | versions
    return releases
