import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from imagechain.images import process
from imagechain.images.process import ProgramError, ProgramMissingError, run, stream


def is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):  # gone before it was opened, or read
        return False


def test_output_and_exit_code_come_back() -> None:
    done = asyncio.run(run(["sh", "-c", "echo out; echo err >&2; exit 3"]))
    assert (done.exit_code, done.output, done.error) == (3, b"out\n", "err\n")
    with pytest.raises(ProgramError, match=r"sh -c .* ended with exit code 3: err"):
        done.check()


def test_a_missing_program_is_named() -> None:
    with pytest.raises(ProgramMissingError, match="no-such-program is not installed"):
        asyncio.run(run(["no-such-program"]))


def test_a_program_that_hangs_is_stopped_in_time() -> None:
    with pytest.raises(ProgramError, match=r"did not end within 0\.1 s"):
        asyncio.run(run(["sleep", "60"], timeout_seconds=0.1))


def test_a_program_that_says_too_much_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "OUTPUT_BYTES_MAX", 1000)
    with pytest.raises(ProgramError, match="said more than 1000 bytes"):
        asyncio.run(run(["yes"]))


@pytest.mark.parametrize(
    "script", ["echo $$; exec sleep 60", 'trap "" TERM; echo $$; while :; do sleep 1; done']
)
def test_a_cancelled_program_is_stopped_even_if_it_does_not_listen(script: str, tmp_path: Path) -> None:
    said: list[bytes] = []

    async def cancel() -> None:
        task = asyncio.create_task(stream(["sh", "-c", script], said.append, temporary=tmp_path))
        while not said:  # noqa: ASYNC110 - another process is waited for
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    begun = time.monotonic()
    asyncio.run(cancel())
    assert time.monotonic() - begun < process.STOP_SECONDS_MAX + 1
    assert not is_alive(int(said[0]))


def test_a_second_cancellation_kills_at_once(tmp_path: Path) -> None:
    said: list[bytes] = []

    async def cancel_twice() -> None:
        task = asyncio.create_task(
            stream(
                ["sh", "-c", 'trap "" TERM; echo; while :; do sleep 1; done'], said.append, temporary=tmp_path
            )
        )
        while not said:  # noqa: ASYNC110 - another process is waited for
            await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    begun = time.monotonic()
    asyncio.run(cancel_twice())
    assert time.monotonic() - begun < process.STOP_SECONDS_MAX / 2


def test_what_a_program_needs_for_a_while_goes_to_the_folder_that_is_named(tmp_path: Path) -> None:
    said: list[bytes] = []
    assert asyncio.run(stream(["sh", "-c", "mktemp"], said.append, temporary=tmp_path)) == 0
    assert Path(said[0].decode().strip()).parent == tmp_path


def test_a_program_dies_with_a_killed_parent() -> None:
    if not process._leash():
        pytest.skip("setpriv of util-linux is not installed: builders are not killed with imagechain")
    code = (
        "import asyncio\nfrom pathlib import Path\nfrom imagechain.images.process import stream\n"
        "def show(chunk):\n    print(chunk.decode(), flush=True)\n"
        "asyncio.run(stream(['sh', '-c', 'echo $$; exec sleep 60'], show, temporary=Path('/tmp')))"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, env=environment
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
    until = time.monotonic() + 5
    while is_alive(pid):
        assert time.monotonic() < until
        time.sleep(0.02)


@pytest.mark.parametrize("ending", ["exit 1", "kill -SYS $$"])
def test_programs_are_run_without_setpriv_where_it_may_not_do_its_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    (tmp_path / "setpriv").write_text(f"#!/bin/sh\n{ending}\n")
    (tmp_path / "setpriv").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert process._leash.__wrapped__() == ()
    (tmp_path / "setpriv").unlink()
    monkeypatch.setenv("PATH", str(tmp_path))
    assert process._leash.__wrapped__() == ()


def test_orphans_are_killed_by_their_mark_and_nobody_else(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    with (
        subprocess.Popen([*command, f"{tmp_path}/run/1"]) as orphan,
        subprocess.Popen([*command, f"{tmp_path}/other"]) as other,
    ):
        try:
            assert process.kill_orphans(f"{tmp_path}/run/") == 1
            assert orphan.wait(5) == -signal.SIGKILL
            assert other.poll() is None
        finally:
            other.kill()


def test_how_a_program_ended_is_said_in_words() -> None:
    assert process.ending(-9) == "was killed by SIGKILL"
    assert process.ending(125) == "ended with exit code 125"
