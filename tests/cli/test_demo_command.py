"""`imagechain demo`: run as a person runs it, and its own check."""

import asyncio
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

from imagechain.cli import demo
from imagechain.cli.errors import UnavailableError
from imagechain.testing import SimulationError
from imagechain.testing.demo import Run, free_port, running

TOP = Path(__file__).parents[2]
IMAGES = ["examples/base", "examples/left", "examples/right", "examples/app", "examples/leaf"]


@pytest.fixture
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `pip install` would put in place: a wheel, and no checkout around it."""
    folder = tmp_path_factory.mktemp("installed")
    uv = Path(sys.executable).with_name("uv")
    subprocess.run([uv, "build", "--quiet", "--wheel", "--out-dir", folder, TOP], check=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


@pytest.mark.builds
def test_the_demo_of_an_installed_wheel_builds_each_image_once_and_removes_everything(
    installed: Path, tmp_path: Path
) -> None:
    for program in ("buildah", "busybox", "docker-registry"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed, and the demo needs it")
    start = "import imagechain; print(imagechain.__file__); from imagechain.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", start, "demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        cwd="/",
        env={**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(installed)},
        timeout=300,
    )
    assert done.stdout.startswith(str(installed))
    assert done.returncode == 0, done.stdout
    assert re.search(
        r"^While this runs, its dashboard is at http://127\.0\.0\.1:\d+/$", done.stdout, re.MULTILINE
    )
    assert "examples/leaf: blocked by examples/right\n" in done.stdout
    assert "examples/right failed: its pipeline failed" in done.stdout
    rows = re.findall(r"^(examples/\w+) +(\w+) +(\d+) +(.*)$", done.stdout, re.MULTILINE)
    assert [row[0] for row in rows] == IMAGES
    assert {row[1:3] for row in rows} == {("fresh", "1")}
    assert [row[3] for row in rows] == [
        "schedule success",
        "api success",
        "api failed, api success",
        "api success",
        "api success",
    ]
    assert list(tmp_path.iterdir()) == []


def cascade() -> list[Run]:
    """What the runner does when all goes well: one after the other."""
    names = ["base", "left", "right", "right", "app", "leaf"]
    return [
        Run(
            project=f"examples/{name}",
            pipeline=number,
            source="api",
            outcome="failed" if number == 2 else "success",
            began=number,
            ended=number + 1,
            log=Path("log"),
        )
        for number, name in enumerate(names)
    ]


def test_a_right_cascade_passes_the_check() -> None:
    assert demo.check(cascade()) == []


def test_an_image_that_is_built_twice_or_never_or_fails_unasked_is_told() -> None:
    runs = cascade()
    assert demo.check([*runs, runs[-1]]) == ["leaf was built 2 times, not once"]
    assert demo.check(runs[:-1]) == ["leaf was built 0 times, not once"]
    assert demo.check([run for run in runs if run.outcome == "success"]) == [
        "these failed: none, and not right once"
    ]


def test_a_build_before_its_inputs_is_told() -> None:
    runs = cascade()
    runs[1], runs[4] = (
        Run(**{**{name: getattr(old, name) for name in old.__struct_fields__}, "began": 0.5})
        for old in (runs[1], runs[4])
    )
    assert demo.check(runs) == [
        "left was started before base was built",
        "app was started before left was built",
        "app was started before right was built",
    ]


def test_a_missing_program_is_told_by_its_package(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError, match="buildah, busybox-static, docker-registry"):
        demo.demo()


def test_a_busybox_that_needs_libraries_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("buildah", "busybox", "docker-registry"):
        (tmp_path / name).write_bytes(b"\x7fELF\0/lib64/ld-linux-x86-64.so.2\0")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UnavailableError, match="install the Debian package busybox-static"):
        demo.demo()


#: Takes its port, and ends when it is connected to for the second time.
DIES = """
import socket, sys
server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
server.accept()
server.accept()
sys.exit("the disk is full")
"""


def test_a_program_that_dies_ends_the_demo_at_once_with_its_exit_code_and_last_words(tmp_path: Path) -> None:
    port = free_port()

    async def main() -> None:
        async with running([sys.executable, "-c", DIES, str(port)], port, tmp_path / "service.log"):
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.close()
            await asyncio.sleep(60)

    began = time.monotonic()
    with pytest.raises(
        SimulationError, match=r"service ended by itself, with exit code 1; .*\n.*disk is full"
    ):
        asyncio.run(main())
    assert time.monotonic() - began < 30


def test_a_program_that_does_not_even_start_is_told_with_its_exit_code(tmp_path: Path) -> None:
    port = free_port()

    async def main() -> None:
        async with running([sys.executable, "-c", "raise SystemExit(3)"], port, tmp_path / "service.log"):
            raise AssertionError("nothing listens")

    with pytest.raises(SimulationError, match="ended by itself, with exit code 3"):
        asyncio.run(main())


def test_who_is_interrupted_while_programs_run_is_not_told_that_they_ended(tmp_path: Path) -> None:
    port = free_port()

    async def wait() -> None:
        async with running([sys.executable, "-c", DIES, str(port)], port, tmp_path / "service.log"):
            await asyncio.sleep(60)

    async def main() -> None:
        task = asyncio.create_task(wait())
        await asyncio.sleep(0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
