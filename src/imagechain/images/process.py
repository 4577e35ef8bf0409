"""Run another program so that it cannot outlive, outgrow or hang this one. Knows nothing of images.

Each program runs in a session of its own: a Ctrl-C on the terminal reaches only imagechain, which then stops
its programs in order. Where `setpriv` (util-linux) works, the kernel kills the program if imagechain is
killed, so that a `kill -9` leaves no builder behind.
"""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from functools import cache
from pathlib import Path

import msgspec

#: A program asked to stop is killed when it has not ended by then.
STOP_SECONDS_MAX = 2.0
#: Output of one program that is kept in memory.
OUTPUT_BYTES_MAX = 256 * 1024 * 1024
_ERROR_BYTES_MAX = 64 * 1024
_CHUNK_BYTES = 64 * 1024


class ProgramError(Exception):
    """A program could not be run or failed; the message says which, how, and what it said."""


class ProgramMissingError(ProgramError):
    """The program is not installed."""


class Completed(msgspec.Struct, frozen=True):
    """A program that has ended."""

    argv: tuple[str, ...]
    #: As in `subprocess`: negative where a signal ended it.
    exit_code: int
    output: bytes
    #: The end of what it wrote to standard error.
    error: str

    def check(self) -> "Completed":
        """Return itself if the program succeeded.

        Raises:
            ProgramError: it failed.
        """
        if self.exit_code != 0:
            said = self.error.strip() or "it said nothing"
            raise ProgramError(f"{' '.join(self.argv[:3])} … {ending(self.exit_code)}: {said}")
        return self


def ending(exit_code: int) -> str:
    """Say in words how a program ended."""
    if exit_code < 0:
        with contextlib.suppress(ValueError):
            return f"was killed by {signal.Signals(-exit_code).name}"
        return f"was killed by signal {-exit_code}"
    return f"ended with exit code {exit_code}"


async def run(
    argv: Sequence[str],
    *,
    timeout_seconds: float = 60.0,
    environment: Mapping[str, str] | None = None,
    text: bytes = b"",
) -> Completed:
    """Run a program to its end and keep what it says.

    Args:
        argv: its name and arguments.
        timeout_seconds: when it is stopped.
        environment: all of its environment; None: that of imagechain.
        text: what it reads from standard input; at most what a pipe holds before it reads.

    Raises:
        ProgramError: it is missing, says too much, or does not end in time.
    """
    process = await _start(argv, stderr=asyncio.subprocess.PIPE, environment=environment, reads=bool(text))
    if process.stdin is not None:
        process.stdin.write(text)
        process.stdin.close()
    reading = asyncio.create_task(_read(process.stdout, argv))
    reading_error = asyncio.create_task(_read_end(process.stderr))
    try:
        async with asyncio.timeout(timeout_seconds):
            output, error, exit_code = await asyncio.gather(reading, reading_error, process.wait())
    except TimeoutError:
        raise ProgramError(f"{' '.join(argv[:3])} … did not end within {timeout_seconds:g} s") from None
    finally:
        for task in (reading, reading_error):
            task.cancel()
        await asyncio.gather(reading, reading_error, return_exceptions=True)
        await stop(process)
    return Completed(tuple(argv), exit_code, output, error.decode(errors="replace"))


async def stream(argv: Sequence[str], write: Callable[[bytes], object], *, temporary: Path) -> int:
    """Run a program as long as it takes, hand on what it says (both streams); return its exit code.

    What it needs for a while goes to the folder `temporary`: a program that is killed leaves it behind.
    """
    process = await _start(argv, stderr=asyncio.subprocess.STDOUT, temporary=temporary)
    try:
        async for chunk in _chunks(process.stdout):
            write(chunk)
        return await process.wait()
    finally:
        await stop(process)


async def stop(process: asyncio.subprocess.Process) -> None:
    """Stop a program and all that is in its session: TERM, then KILL. A second cancellation kills at once."""
    if process.returncode is None:
        _signal_group(process, signal.SIGTERM)
    try:
        await _ended(process, STOP_SECONDS_MAX)
    finally:
        if process.returncode is None:
            _signal_group(process, signal.SIGKILL)
            await _ended(process, STOP_SECONDS_MAX)


async def _ended(process: asyncio.subprocess.Process, seconds_max: float) -> None:
    """Wait so long for the end of a program; what it has to say is read, or its end would not be seen."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds_max):
            await asyncio.gather(process.wait(), _read_end(process.stdout), _read_end(process.stderr))


def kill_orphans(mark: str) -> int:
    """Kill programs of an earlier imagechain that outlived it, told by a text in their command lines.

    The kernel kills what imagechain started, but not what that has started in its turn: a rootless buildah,
    which begins itself anew in a user namespace, goes on.
    """
    killed = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            is_marked = os.fsencode(mark) in (folder / "cmdline").read_bytes()
            if is_marked and int(folder.name) != os.getpid():
                os.kill(int(folder.name), signal.SIGKILL)
                killed += 1
        except OSError:
            continue  # it ended meanwhile, or belongs to somebody else
    return killed


async def _start(
    argv: Sequence[str],
    *,
    stderr: int,
    temporary: Path | None = None,
    environment: Mapping[str, str] | None = None,
    reads: bool = False,
) -> asyncio.subprocess.Process:
    if shutil.which(argv[0]) is None:
        raise ProgramMissingError(f"{argv[0]} is not installed")
    try:
        return await asyncio.create_subprocess_exec(
            *_leash(),
            *argv,
            stdin=asyncio.subprocess.PIPE if reads else asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
            env=environment if temporary is None else {**os.environ, "TMPDIR": str(temporary)},
            start_new_session=True,
        )
    except OSError as error:
        raise ProgramError(f"{argv[0]} cannot be started: {error.strerror}") from error


@cache
def _leash() -> tuple[str, ...]:
    """The prefix that makes the kernel kill a program when imagechain dies."""
    setpriv = shutil.which("setpriv")
    prefix = (setpriv, "--pdeathsig", "KILL", "--") if setpriv else ()
    # busybox has a setpriv of its own, which does not know --pdeathsig; and a unit's SystemCallFilter= may
    # forbid what setpriv does. There systemd ends all processes of the unit.
    if prefix and subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode != 0:
        return ()
    return prefix


def _signal_group(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    # Each program leads its own session, so its process group bears its pid.
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, number)


async def _chunks(stream: asyncio.StreamReader | None) -> AsyncIterator[bytes]:
    while stream is not None and (chunk := await stream.read(_CHUNK_BYTES)):
        yield chunk


async def _read(stream: asyncio.StreamReader | None, argv: Sequence[str]) -> bytes:
    output = bytearray()
    async for chunk in _chunks(stream):
        output += chunk
        if len(output) > OUTPUT_BYTES_MAX:
            raise ProgramError(f"{' '.join(argv[:3])} … said more than {OUTPUT_BYTES_MAX} bytes")
    return bytes(output)


async def _read_end(stream: asyncio.StreamReader | None) -> bytes:
    output = bytearray()
    async for chunk in _chunks(stream):
        output += chunk
        del output[:-_ERROR_BYTES_MAX]
    return bytes(output)
