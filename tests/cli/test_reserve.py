"""What is left of a quota of pulls: mirroring and vetting leave a part of it, which hosts use."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from imagechain.cli.errors import EXIT_FAILED, EXIT_UNAVAILABLE
from imagechain.cli.hosts import hosts_of
from imagechain.cli.main import run
from imagechain.cli.settings import read_service_settings
from imagechain.config import Settings
from imagechain.refs import Platform, parse_reference
from registry.pictures import make_image, make_index
from registry.servers import Server, metered, open_registry

__all__ = ["open_registry"]

LIMIT, RESERVED = 100, 30


class Place:
    """A registry with a quota of which little more than the reserve is left, and the settings for it."""

    def __init__(self, address: str, remaining: list[int], file: Path) -> None:
        self.address, self.remaining, self.file = address, remaining, file

    @property
    def settings(self) -> Settings:
        return read_service_settings(self.file)


@pytest.fixture
def place(tmp_path: Path, open_registry: Server, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setenv("HOME", str(tmp_path))
    image = {
        f"linux/{arch}": make_image(architecture=arch, layers=[b"reserve"]) for arch in ("amd64", "arm64")
    }
    for tag in "abcdef":
        open_registry.push("reserve/app", make_index(image, annotations={"of": tag}), tag)
    file = tmp_path / "imagechain.toml"
    with metered(open_registry, LIMIT, RESERVED + 2) as (address, remaining):
        file.write_text(
            f'state_dir = "{tmp_path}/state"\n[registry."{open_registry.address}"]\ninsecure = true\n'
            f'[registry."{address}"]\ninsecure = true\npulls_reserved_percent = {RESERVED}\n'
            f'[[mirror]]\nsource = "{address}/reserve/app"\n'
            f'target = "{open_registry.address}/reserve/mirrored"\ntags = ["a", "b", "c"]\n'
        )
        yield Place(address, remaining, file)


def pull_as_a_host(place: Place) -> None:
    """Read an image as `hosts update` does where a tag has moved."""

    async def read() -> None:
        [host] = hosts_of(place.settings)
        async with host.make_client(None) as client:
            await client.image(parse_reference(f"{place.address}/reserve/app:f"), Platform("linux", "amd64"))

    asyncio.run(read())


def test_mirroring_stops_at_the_reserve_and_a_host_goes_on(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["mirror", "sync", "--config", str(place.file)]) == EXIT_UNAVAILABLE
    assert "which are left to hosts and builds" in capsys.readouterr().err
    assert place.remaining[0] >= RESERVED
    pull_as_a_host(place)
    left = place.remaining[0]
    assert left < RESERVED
    assert run(["mirror", "sync", "--config", str(place.file)]) == EXIT_UNAVAILABLE
    assert place.remaining[0] == left


def test_vetting_stops_at_the_reserve_and_a_host_goes_on(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    references = [f"{place.address}/reserve/app:{tag}" for tag in "abcdef"]
    assert run(["vet", "--config", str(place.file), "--format", "json", *references]) == EXIT_FAILED
    problems = [found["problem"] for found in json.loads(capsys.readouterr().out)]
    assert any("which are left to hosts and builds" in problem for problem in problems)
    assert place.remaining[0] >= RESERVED
    pull_as_a_host(place)
    assert place.remaining[0] < RESERVED
