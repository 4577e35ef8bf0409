import os
import re
import subprocess
from pathlib import Path

import pytest

from imagechain.engines.folders import find_folders
from imagechain.engines.local import logs
from imagechain.engines.local.logs import BuildLog, log_file, prune_logs


def test_a_short_log_is_kept_whole_and_the_one_before_it_too(tmp_path: Path) -> None:
    for text in (b"first\n", b"second\n"):
        with BuildLog(tmp_path / "a.log") as log:
            log.write(text)
    assert (tmp_path / "a.log").read_bytes() == b"second\n"
    assert (tmp_path / "a.previous.log").read_bytes() == b"first\n"


def test_of_a_runaway_log_the_beginning_and_the_end_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logs, "HEAD_BYTES_MAX", 100)
    monkeypatch.setattr(logs, "TAIL_BYTES_MAX", 100)
    lines = [b"line %03d\n" % number for number in range(1000)]
    with BuildLog(tmp_path / "a.log") as log:
        for line in lines:
            log.write(line)
    text = (tmp_path / "a.log").read_bytes()
    assert text.startswith(b"".join(lines[:11]))
    assert text.endswith(b"".join(lines[-11:]))
    note = re.search(rb"\n\[\.\.\. (\d+) bytes were left out here \.\.\.\]\n", text)
    assert note is not None
    assert len(text) - len(note[0]) + int(note[1]) == 1000 * len(lines[0])
    assert log.last_lines()[-1] == "line 999"


def test_a_full_disk_costs_the_log_and_not_the_build(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full: a full disk is not tested")
    file = tmp_path / "a.log"
    log = BuildLog(file)
    with log:
        log._stream.close()
        log._stream = Path("/dev/full").open("wb", buffering=0)  # noqa: SIM115
        log.write(b"lost\n")
        log.write(b"lost too\n")
    assert log.last_lines() == ("lost", "lost too")


def test_a_log_that_cannot_be_made_is_missed_by_nobody(tmp_path: Path) -> None:
    (tmp_path / "logs").write_text("a file")
    with BuildLog(tmp_path / "logs" / "a.log") as log:
        log.write(b"said\n")
    assert not log.was_opened
    assert log.last_lines() == ("said",)


@pytest.mark.parametrize("project", [".", "a/b", "a:b", "../../etc/passwd", "x" * 1000, "ü" * 200])
def test_every_project_has_a_log_of_its_own_in_the_folder(tmp_path: Path, project: str) -> None:
    file = log_file(tmp_path, project)
    assert file.parent == tmp_path
    assert file != log_file(tmp_path, project + "x")
    file.touch()


def test_only_so_many_logs_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "LOG_FILES_MAX", 3)
    for number in range(5):
        (tmp_path / f"{number}.log").touch()
        os.utime(tmp_path / f"{number}.log", (number, number))
    prune_logs(tmp_path)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["2.log", "3.log", "4.log"]


def test_one_folder_is_one_chain_however_it_is_reached(tmp_path: Path) -> None:
    top = tmp_path / "top"
    top.mkdir()
    (tmp_path / "link").symlink_to(top)
    environ = {"XDG_STATE_HOME": str(tmp_path / "state"), "XDG_CACHE_HOME": "relative"}
    assert find_folders(top, environ) == find_folders(tmp_path / "link", environ)
    assert find_folders(top, environ).state.parent == tmp_path / "state" / "imagechain"
    assert find_folders(top, environ).cache == Path.home() / ".cache" / "imagechain"
    assert subprocess.run(["ls", "-A", top], capture_output=True, check=True).stdout == b""
