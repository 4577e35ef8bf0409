"""`mirror sync` against real registries: the whole way, kill -9 at any time, pruning, exit codes."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from itertools import count
from pathlib import Path

import httpx2
import pytest

from disks import fill, small_disk
from imagechain.cli.errors import EXIT_FAILED, EXIT_UNAVAILABLE, EXIT_USAGE
from imagechain.cli.main import run
from imagechain.mirror.state import locked
from registry.pictures import OCI_INDEX, OCI_MANIFEST, Stored, make_image, make_index
from registry.servers import Server, open_registry, run_registry

__all__ = ["open_registry"]

PROGRAM = Path(sys.executable).with_name("imagechain")
RUN_SECONDS_MAX = 120
SETTLE_SECONDS_MAX = 10
_numbers = count()


class Place:
    """A source and a target repository of one real registry, and the settings between them."""

    def __init__(self, folder: Path, server: Server) -> None:
        number = next(_numbers)
        self.server, self.folder = server, folder
        self.source, self.target = f"up/image-{number}", f"mirror/image-{number}"
        self.settings = folder / "imagechain.toml"
        self.write()

    def write(self, more: str = "", tags: str = '"*"') -> None:
        self.settings.write_text(
            f'state_dir = "{self.folder}/state"\n[registry."{self.server.address}"]\ninsecure = true\n'
            f'[[mirror]]\nsource = "{self.server.address}/{self.source}"\n'
            f'target = "{self.server.address}/{self.target}"\ntags = [{tags}]\n{more}\n'
        )

    def push(self, tag: str, layers: int = 1) -> Stored:
        index = an_index(layers)
        self.server.push(self.source, index, tag)
        return index

    def sync(self, *arguments: str) -> int:
        return run(["mirror", "sync", "--config", str(self.settings), *arguments])

    def digests(self, repository: str) -> dict[str, str]:
        """Read all tags, and everything below them: a name that is not whole is an error."""
        with httpx2.Client(base_url=f"http://{self.server.address}/v2/{repository}/") as client:
            tags = client.get("tags/list").json().get("tags") or []
            return {tag: assert_whole(client, tag) for tag in tags}


def assert_whole(client: httpx2.Client, target: str) -> str:
    accept = {"Accept": f"{OCI_INDEX}, {OCI_MANIFEST}"}
    deadline = time.monotonic() + SETTLE_SECONDS_MAX
    # This registry writes the file of a name in two steps, and may just be at it.
    while (response := client.get(f"manifests/{target}", headers=accept)).status_code != 200:
        assert time.monotonic() < deadline, response.text
        time.sleep(0.05)
    manifest = response.json()
    for child in manifest.get("manifests", ()):
        assert_whole(client, child["digest"])
    for blob in (*manifest.get("layers", ()), *filter(None, [manifest.get("config")])):
        assert client.head(f"blobs/{blob['digest']}").status_code == 200
    return response.headers["docker-content-digest"]


def an_index(layers: int = 1) -> Stored:
    number = next(_numbers)
    chance = random.Random(number)  # noqa: S311 - the same bytes in each run
    return make_index(
        {
            f"linux/{arch}": make_image(
                architecture=arch, layers=[chance.randbytes(30_000) for _ in range(layers)]
            )
            for arch in ("amd64", "arm64")
        }
    )


@pytest.fixture
def place(tmp_path: Path, open_registry: Server, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("HOME", str(tmp_path))
    return Place(tmp_path, open_registry)


def test_a_mirror_is_brought_up_to_date_and_says_what_it_did(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    first, _ = place.push("16"), place.push("17")
    assert place.sync("--dry-run", "--format", "json") == 0
    assert {each["outcome"] for each in json.loads(capsys.readouterr().out)["tags"]} == {"to copy"}
    assert place.sync() == 0
    assert place.digests(place.target) == place.digests(place.source)
    moved = place.push("16")
    capsys.readouterr()
    assert place.sync("--format", "json") == 0
    results = {each["source"][-2:]: each for each in json.loads(capsys.readouterr().out)["tags"]}
    assert (results["16"]["outcome"], results["17"]["outcome"]) == ("copied", "same")
    assert results["16"]["digest"] == moved.digest
    assert place.digests(place.target)[results["16"]["previous"]] == first.digest


def test_a_run_that_finds_nothing_new_fetches_no_manifest_at_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with run_registry(tmp_path) as server:
        place = Place(tmp_path, server)
        for tag in ("16", "17"):
            place.push(tag)
        assert place.sync() == 0
        log = tmp_path / "log"
        before = len(log.read_text().splitlines())
        assert place.sync() == 0
        asked = [line for line in log.read_text().splitlines()[before:] if 'HTTP/1.1" ' in line]
        assert len(asked) == 5
        assert not [line for line in asked if '"GET ' in line and "/manifests/" in line]


def test_a_run_that_is_killed_at_any_time_leaves_whole_names_and_the_next_one_ends_it(place: Place) -> None:
    for number in range(4):
        place.push(f"v{number}", layers=3)
    command = [str(PROGRAM), "mirror", "sync", "--config", str(place.settings)]
    seed = int(os.environ.get("IMAGECHAIN_TEST_SEED", "7"))
    chance = random.Random(seed)  # noqa: S311 - a seed can be replayed
    for _ in range(3):
        # From its own time on: starting takes most of a short run.
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            wait_for(place, process, chance.randrange(3))
            process.send_signal(signal.SIGKILL)
        has = place.digests(place.target)
        assert has.items() <= place.digests(place.source).items(), f"seed {seed}"
    assert place.sync() == 0
    assert place.digests(place.target) == place.digests(place.source)


def wait_for(place: Place, process: subprocess.Popen[bytes], tags: int) -> None:
    """Wait until some more tags are there, or the run has ended."""
    deadline = time.monotonic() + RUN_SECONDS_MAX
    before = len(place.digests(place.target))
    while process.poll() is None and time.monotonic() < deadline:
        if len(place.digests(place.target)) >= before + tags:
            return
        time.sleep(0.01)


def test_two_runs_at_once_do_not_get_in_each_others_way(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    place.push("16")
    with locked(place.folder / "state/mirror"):
        assert place.sync() == EXIT_UNAVAILABLE
    assert "another `mirror sync` is at work" in capsys.readouterr().err
    assert place.sync() == 0


def test_a_schedule_is_kept_unless_a_target_is_named(place: Place) -> None:
    place.write('schedule = "0 0 1 1 *"')
    place.push("16")
    assert place.sync() == 0
    place.push("16")
    assert place.sync() == 0
    assert place.digests(place.target)["16"] != place.digests(place.source)["16"]
    assert place.sync(f"{place.server.address}/{place.target}") == 0
    assert place.digests(place.target)["16"] == place.digests(place.source)["16"]


def test_where_no_state_can_be_kept_it_is_told_what_was_mirrored_all_the_same(
    place: Place, capsys: pytest.CaptureFixture[str]
) -> None:
    index = place.push("1")
    with small_disk(place.folder / "state", 16) as disk:
        assert place.sync("--dry-run") == 0
        fill(disk)
        capsys.readouterr()
        assert place.sync("--format", "json") == EXIT_UNAVAILABLE
    output = capsys.readouterr()
    assert [each["outcome"] for each in json.loads(output.out)["tags"]] == ["copied"]
    assert "No space left on device" in output.err
    assert place.digests(place.target)["1"] == index.digest


def test_a_tag_that_is_gone_is_told_and_stays(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.push("16")
    place.write(tags='"16", "gone"')
    assert place.sync() == EXIT_FAILED
    captured = capsys.readouterr()
    assert "absent" in captured.out
    assert "has no such image" in captured.err
    assert set(place.digests(place.target)) == {"16"}


def test_a_source_that_is_down_is_not_up_to_date(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    place.push("16")
    assert place.sync() == 0
    settings = place.settings.read_text()
    place.settings.write_text(settings.replace(f'source = "{place.server.address}', 'source = "127.0.0.1:9'))
    assert place.sync() == EXIT_UNAVAILABLE
    assert "unknown" in capsys.readouterr().out


def test_pruning_needs_a_dry_run_and_the_hosts(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    kept, _ = place.push("15"), place.push("16")
    place.push("17")
    place.write("prune = true")
    assert place.sync() == 0
    place.write("prune = true", tags='"17"')
    status = place.folder / "host.json"
    status.write_text(json.dumps({"containers": [{"digest": kept.digest}]}))
    capsys.readouterr()
    assert place.sync("--dry-run", "--hosts", str(status), "--format", "json") == 0
    planned = json.loads(capsys.readouterr().out)
    assert {each["tag"]: each["outcome"] for each in planned["removals"]} == {"15": "kept", "16": "to remove"}
    assert place.sync("--prune", planned["plan"]) == EXIT_USAGE
    assert "--prune needs --hosts" in capsys.readouterr().err
    assert place.sync("--prune", "0" * 12, "--hosts", str(status)) == EXIT_USAGE
    assert "is not the plan" in capsys.readouterr().err
    # This registry deletes no tags; that is told, and nothing else is removed in its place.
    assert place.sync("--prune", planned["plan"], "--hosts", str(status)) == EXIT_FAILED
    assert "does not delete 16" in capsys.readouterr().err
    assert set(place.digests(place.target)) == {"15", "16", "17"}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        ("source_typo = 1", "source_typo"),
        ('[[mirror]]\nsource = "{target}"\ntarget = "{source}"\ntags = ["1"]', "lead in a circle"),
        ('deny = ["/(/"]', "no regular expression"),
    ],
)
def test_a_list_that_means_nothing_is_refused(
    place: Place, capsys: pytest.CaptureFixture[str], more: str, message: str
) -> None:
    host = place.server.address
    place.write(more.format(source=f"{host}/{place.source}", target=f"{host}/{place.target}"))
    assert place.sync() == EXIT_USAGE
    assert message in capsys.readouterr().err


def test_without_a_list_the_page_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = tmp_path / "imagechain.toml"
    settings.write_text(f'state_dir = "{tmp_path}"\n')
    assert run(["mirror", "sync", "--config", str(settings)]) == EXIT_USAGE
    assert "docs/mirror.md" in capsys.readouterr().err
