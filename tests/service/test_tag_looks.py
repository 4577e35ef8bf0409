"""What the service's looks at tags of others leave in the history that vetting reads."""

import asyncio
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from disks import fill, small_disk
from imagechain.service.ports import ImageAbsent, ImageRead, ImageUnchecked
from imagechain.service.tag_looks import TagLooks
from imagechain.vetting import record
from imagechain.vetting.record import HistoryFile

OTHERS, OWN = "docker.io/library/debian:12", "registry.example.com/group/app:1"
NOW = 1_793_491_200.0
Found = ImageRead | ImageAbsent | ImageUnchecked


class Shelf:
    """Images by reference, and how they are read through what is under test."""

    def __init__(self, file: HistoryFile) -> None:
        self.images: dict[str, Found] = {}
        self.now = NOW
        self.file = file
        self.looks = TagLooks(self, file, lambda: "registry.example.com", lambda: self.now)

    async def read(self, reference: str) -> Found:
        return self.images.get(reference, ImageAbsent())

    def look(self, reference: str) -> Found:
        return asyncio.run(self.looks.read(reference))

    def put(self, reference: str, digest: str) -> None:
        self.images[reference] = ImageRead(digest=digest, content="c")

    def seen(self) -> list[tuple[str, str, float]]:
        history, problems = self.file.read()
        assert problems == []
        return [(each.ref, each.digest, each.seen_at - NOW) for each in history.essential()]


@pytest.fixture
def shelf(tmp_path: Path) -> Shelf:
    return Shelf(HistoryFile(tmp_path / "vetting/tags.jsonl"))


def test_moves_of_others_are_kept_with_their_times(shelf: Shelf) -> None:
    shelf.put(OTHERS, "sha256:1")
    assert shelf.look(OTHERS) == shelf.images[OTHERS]
    shelf.now += 900
    shelf.put(OTHERS, "sha256:2")
    shelf.look(OTHERS)
    assert shelf.seen() == [(OTHERS, "sha256:1", 0), (OTHERS, "sha256:2", 900)]


def test_looks_at_what_stays_write_nothing(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    shelf.put(OTHERS, "sha256:1")
    shelf.look(OTHERS)

    def add(*_: object) -> None:
        raise AssertionError("nothing was to be written")

    monkeypatch.setattr(HistoryFile, "add", add)
    shelf.look(OTHERS)


@pytest.mark.parametrize(
    "reference", [OWN, f"docker.io/library/debian@sha256:{'1' * 64}"], ids=["of the group", "pinned"]
)
def test_what_is_no_tag_of_others_is_left_out(shelf: Shelf, reference: str) -> None:
    shelf.put(reference, f"sha256:{'1' * 64}")
    shelf.look(reference)
    assert shelf.seen() == []


@pytest.mark.parametrize("found", [ImageAbsent(), ImageUnchecked("the registry is down")])
def test_what_could_not_be_seen_is_not_kept(shelf: Shelf, found: Found) -> None:
    shelf.images[OTHERS] = found
    assert shelf.look(OTHERS) == found
    assert shelf.seen() == []


def test_a_full_disk_spoils_no_look_and_is_told_once(shelf: Shelf, tmp_path: Path) -> None:
    shelf.put(OTHERS, "sha256:1")
    with small_disk(tmp_path / "vetting", 16) as disk, capture_logs() as logs:
        fill(disk)
        for _ in range(3):
            assert shelf.look(OTHERS) == shelf.images[OTHERS]
        assert [log["event"] for log in logs] == ["the history of tags cannot be kept"]
        (disk / "fill").unlink()
        shelf.look(OTHERS)
        assert len(shelf.seen()) == 1


def test_who_could_write_to_a_history_still_can_when_it_was_made_short(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "_SHORTEN_BYTES", 10)
    path = tmp_path / "tags.jsonl"
    shelf = Shelf(HistoryFile(path))
    shelf.put(OTHERS, "sha256:1")
    shelf.look(OTHERS)
    path.chmod(0o660)
    before = path.stat()
    shelf.put(OTHERS, "sha256:2")
    shelf.look(OTHERS)
    after = path.stat()
    assert before.st_ino != after.st_ino
    assert (before.st_uid, before.st_gid, before.st_mode) == (after.st_uid, after.st_gid, after.st_mode)
