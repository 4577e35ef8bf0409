import json
import multiprocessing
import os
import signal
from pathlib import Path

import pytest

from imagechain.vetting import record
from imagechain.vetting.history import look_at_tag
from imagechain.vetting.record import HistoryError, HistoryFile
from imagechain.vetting.values import DAY_SECONDS
from vetting.appending import NOW, append, sighting


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    file = HistoryFile(tmp_path / "state" / "tags.jsonl")
    assert file.read()[0].runs("docker.io/library/app:1", "linux/amd64") == []
    file.add([sighting(), sighting("b", at=NOW + 5)])
    history, problems = file.read()
    assert problems == []
    assert history.essential() == [sighting(), sighting("b", at=NOW + 5)]


def test_looks_that_say_nothing_new_are_written_once_a_day(tmp_path: Path) -> None:
    file = HistoryFile(tmp_path / "tags.jsonl")
    for minutes in range(0, 60 * 49, 60):
        file.add([sighting(at=NOW + minutes * 60)])
    assert len(file.path.read_text().splitlines()) == 3


def test_a_look_by_head_is_kept_apart_from_looks_at_a_platform(tmp_path: Path) -> None:
    file = HistoryFile(tmp_path / "tags.jsonl")
    file.add([*look_at_tag("docker.io/library/app:1", "index", NOW, {"linux/amd64": "a"})])
    # The same again, a minute later; then another index around the same image.
    file.add(look_at_tag("docker.io/library/app:1", "index", NOW + 60, {"linux/amd64": "a"}))
    file.add(look_at_tag("docker.io/library/app:1", "index 2", NOW + 120, {"linux/amd64": "a"}))
    lines = [json.loads(line) for line in file.path.read_text().splitlines()]
    assert [(line.get("platform", ""), line["digest"], line.get("index_digest")) for line in lines] == [
        ("", "index", None),
        ("linux/amd64", "a", "index"),
        ("", "index 2", None),
        ("linux/amd64", "a", "index 2"),
    ]


def test_times_may_be_numbers_and_clocks_be_written_by_any_sign(tmp_path: Path) -> None:
    file = HistoryFile(tmp_path / "h.jsonl")
    line = {
        "ref": "nginx:1.27",
        "platform": "linux/amd64",
        "digest": "sha256:1",
        "seen_at": NOW,
        "clocks": {"config.created": "1970-01-01T00:00:00Z", "tag_last_pushed": NOW, "last_modified": None},
        "note": "more than is needed",
    }
    file.path.write_text(json.dumps(line) + "\n")
    [found] = file.read()[0].essential()
    assert found.ref == "docker.io/library/nginx:1.27"
    assert found.seen_at == NOW
    assert found.clocks == {"config-created": 0.0, "tag-last-pushed": NOW}


def test_a_line_cut_short_is_told_and_spoils_nothing(tmp_path: Path) -> None:
    file = HistoryFile(tmp_path / "tags.jsonl")
    file.add([sighting()])
    with file.path.open("ab") as cut:
        cut.write(b'{"ref": "docker.io/li')
    file.add([sighting("b", at=NOW + 5)])
    history, problems = file.read()
    assert [each.digest for each in history.essential()] == ["a", "b"]
    assert problems == [f"{file.path}:2: left out: JSON is malformed: invalid character (byte 21)"]


def test_a_long_history_is_made_short_without_losing_a_move(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "_SHORTEN_BYTES", 2_000)
    file = HistoryFile(tmp_path / "tags.jsonl")
    for day in range(100):
        file.add([sighting(str(day // 40), at=NOW + day * DAY_SECONDS)])
    assert file.path.stat().st_size < 4_000
    assert file.read()[0].moves("docker.io/library/app:1", "linux/amd64") == [
        NOW + 40 * DAY_SECONDS,
        NOW + 80 * DAY_SECONDS,
    ]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes files of others")
def test_what_root_makes_belongs_to_whom_the_state_folder_does(tmp_path: Path) -> None:
    os.chown(tmp_path, 12345, 23456)
    path = tmp_path / "vetting/tags.jsonl"
    HistoryFile(path).add([sighting("a")])
    for made in (path, path.parent):
        assert (made.stat().st_uid, made.stat().st_gid) == (12345, 23456)


def test_several_processes_may_add_at_once(tmp_path: Path) -> None:
    path = tmp_path / "tags.jsonl"
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=append, args=(path, name, 20)) for name in ("a", "b")]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    history, problems = HistoryFile(path).read()
    assert problems == []
    for name in ("a", "b"):
        assert len(history.runs(f"docker.io/library/{name}:1", "linux/amd64")) == 20


def test_a_killedappendr_leaves_at_most_one_line_that_is_told(tmp_path: Path) -> None:
    path = tmp_path / "tags.jsonl"
    context = multiprocessing.get_context("spawn")
    writer = context.Process(target=append, args=(path, "a", 100_000))
    writer.start()
    while not path.exists() or path.stat().st_size < 2_000:
        assert writer.exitcode is None
    os.kill(writer.pid or 0, signal.SIGKILL)
    writer.join()
    HistoryFile(path).add([sighting()])
    history, problems = HistoryFile(path).read()
    assert len(problems) <= 1
    assert history.runs("docker.io/library/app:1", "linux/amd64")


def test_a_history_that_cannot_be_written_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(HistoryError, match="--history"):
        HistoryFile(tmp_path / "file" / "tags.jsonl").add([sighting()])
