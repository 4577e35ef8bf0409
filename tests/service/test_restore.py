"""A copy of the store, and the service that goes on from it, as `docs/service.md` tells it."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from imagechain.chain import SourceStatus
from imagechain.cli.errors import EXIT_UNAVAILABLE
from imagechain.cli.main import run
from imagechain.store import BuildRow, open_store
from service.program import free_port, gitlab_with_projects, service, write_settings
from service.whole import Whole, store_at, until


def fresh(shown: dict[str, SourceStatus]) -> bool:
    return len(shown) == 3 and all(one.state == "fresh" for one in shown.values())


def restore(copy: Path, folder: Path) -> None:
    """Put a copy in place of what is left of a store: nothing of its WAL must stay beside it."""
    for file in folder.glob("imagechain.db*"):
        file.unlink()
    copy.rename(folder / "imagechain.db")


async def history(url: str) -> Sequence[BuildRow]:
    store = open_store(url)
    try:
        return await store.builds(100)
    finally:
        store.close()


def test_a_service_goes_on_from_a_copy_of_its_lost_store(tmp_path: Path) -> None:
    config = tmp_path / "imagechain.toml"
    config.write_text(f'[store]\nurl = "{store_at(tmp_path)}"\n')
    copy = tmp_path / "copy.db"

    async def main() -> None:
        whole = Whole(store_at(tmp_path))
        whole.add("base", "debian:bookworm")
        whole.add("app", "base")
        async with whole.serving() as service:
            await until(service, fresh)
            whole.gitlab.push("images/base", {"more": "text"})
            await until(service, lambda shown: fresh(shown) and whole.built == ["base", "app"])
            # While the service has the database open.
            assert await asyncio.to_thread(run, ["backup", str(copy), "--config", str(config)]) == 0
        kept = await history(store_at(tmp_path))
        assert {build.source for build in kept} == {"images/base", "images/app"}

        restore(copy, tmp_path)
        assert await history(store_at(tmp_path)) == kept
        async with whole.serving() as service:
            await until(service, fresh)
            assert whole.built == ["base", "app"]
            whole.gitlab.push("images/base", {"more": "words"})
            await until(service, lambda shown: fresh(shown) and len(whole.built) >= 4)
            assert whole.built == ["base", "app", "base", "app"]

    asyncio.run(main())


def test_a_service_whose_store_is_removed_ends_so_that_it_is_started_anew(tmp_path: Path) -> None:
    with gitlab_with_projects() as (_, url, token):
        port = free_port()
        config = write_settings(tmp_path, url, token, port)
        with service(config, port) as process:
            for file in tmp_path.glob("imagechain.db*"):
                if file.suffix != ".lock":
                    file.unlink()
            _, said = process.communicate(timeout=60)
            assert process.returncode == EXIT_UNAVAILABLE
            assert "was removed or replaced while imagechain had it open" in said.decode()
            assert "Traceback" not in said.decode()
        with service(config, port):
            assert (tmp_path / "imagechain.db").stat().st_size
