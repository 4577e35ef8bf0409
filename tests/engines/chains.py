"""Make local chains for tests, and run `up` on them."""

import asyncio
from collections.abc import Mapping
from pathlib import Path

from imagechain.config import ChainSettings, Settings
from imagechain.discovery import Discovery
from imagechain.discovery.local import discover
from imagechain.engines.folders import Folders, find_folders
from imagechain.engines.local import Event, LocalChain, Options, UpResult, observe, up
from imagechain.images import Builder
from imagechain.refs import Platform


class LocalTree:
    """A folder with Containerfiles, and engine's folders beside it."""

    def __init__(self, folder: Path, builder: Builder) -> None:
        self.top = folder / "chain"
        self.top.mkdir(parents=True)
        self.builder = builder
        self.folders: Folders = find_folders(
            self.top, {"XDG_STATE_HOME": str(folder / "state"), "XDG_CACHE_HOME": str(folder / "cache")}
        )
        #: What folders publish begins with this.
        self.settings_prefix = "localhost"
        self.events: list[Event] = []

    def write(self, files: Mapping[str, str]) -> None:
        """Write files; a name without a suffix is a folder's Containerfile."""
        for name, text in files.items():
            path = self.top / name
            file = path if "." in path.name else path / "Containerfile"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)

    def discover(self) -> Discovery:
        return discover(
            self.top,
            Settings(chain=ChainSettings(prefix=self.settings_prefix)),
            platform=Platform("linux", "amd64"),
        )

    def up(self, *, jobs: int = 4, **options: object) -> UpResult:
        """Run `up`."""
        return asyncio.run(self.up_async(jobs=jobs, **options))

    async def up_async(self, *, jobs: int = 4, **options: object) -> UpResult:
        asked = Options(jobs=jobs, **options)  # type: ignore[arg-type]
        return await up(self.discover, self.builder, self.folders, asked, self.events.append)

    def observe(self) -> LocalChain:
        return asyncio.run(observe(self.discover(), self.builder, self.folders))


def ids(found: tuple[object, ...]) -> list[str]:
    """The ids of parts of a result, sorted."""
    return sorted(str(getattr(each, "id", each)) for each in found)
