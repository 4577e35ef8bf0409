"""Programs that run beside the demo, and end with it."""

import asyncio
import json
import secrets
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from imagechain.images import process
from imagechain.testing.values import SimulationError

_HOST = "127.0.0.1"
#: Below those that the kernel gives to connections: one of these could be gone before it is used.
_PORT_MIN = 20_000
_PORT_MAX = 32_768
_PORT_ATTEMPTS_MAX = 100
_START_SECONDS_MAX = 15.0
_POLL_SECONDS = 0.05
_LOG_LINES_MAX = 20


def free_port() -> int:
    """Find a port of the loopback interface that nobody listens on.

    Raises:
        SimulationError: none was found.
    """
    for _ in range(_PORT_ATTEMPTS_MAX):
        port = _PORT_MIN + secrets.randbelow(_PORT_MAX - _PORT_MIN)
        with suppress(OSError), socket.create_server((_HOST, port)):
            return port
    raise SimulationError(f"no port from {_PORT_MIN} to {_PORT_MAX} of {_HOST} is free")


def end_of(log: Path) -> str:
    """Read the last lines of a log."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_LINES_MAX:])


@asynccontextmanager
async def running(argv: Sequence[str], port: int, log: Path) -> AsyncIterator[None]:
    """Run a program that listens on a port, while the block runs; what it says goes to `log`.

    Raises:
        SimulationError: it does not listen soon, or ends before the block, which is left at once; the message
            holds the end of what it said.
    """
    with log.open("wb", buffering=0) as file:
        task = asyncio.create_task(process.stream(argv, file.write, temporary=log.parent))
        try:
            if not await _listens(task, port):
                raise _ended(task, log) or SimulationError(
                    f"{log.stem} does not listen on port {port}; it said:\n{end_of(log)}"
                )
            async with _only_while(task, log):
                yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


@asynccontextmanager
async def _only_while(program: "asyncio.Task[int]", log: Path) -> AsyncIterator[None]:
    """Leave the block as soon as a program ends, for all in it would only wait in vain."""
    block = asyncio.current_task()

    def leave(_: object) -> None:
        if block is not None:
            block.cancel()

    program.add_done_callback(leave)
    try:
        yield
    except asyncio.CancelledError:
        error = _ended(program, log)
        # Else somebody else ended it, alone or besides.
        if error is None or block is None or block.uncancel():
            raise
        raise error from None
    finally:
        program.remove_done_callback(leave)


def _ended(program: "asyncio.Task[int]", log: Path) -> SimulationError | None:
    """Say how a program ended; None: it runs."""
    if not program.done() or program.cancelled():
        return None
    return SimulationError(
        f"{log.stem} ended by itself, with exit code {program.result()}; it said last:\n{end_of(log)}"
    )


@asynccontextmanager
async def registry(folder: Path) -> AsyncIterator[str]:
    """Run a registry that keeps its images in a folder; the value of the block is its host and port."""
    port = free_port()
    configuration = {
        "version": 0.1,
        "storage": {"filesystem": {"rootdirectory": str(folder / "registry")}},
        "http": {"addr": f"{_HOST}:{port}"},
    }
    file = folder / "registry.yml"
    # JSON is YAML.
    file.write_text(json.dumps(configuration))
    async with running(["docker-registry", "serve", str(file)], port, folder / "registry.log"):
        yield f"{_HOST}:{port}"


async def _listens(task: "asyncio.Task[int]", port: int) -> bool:
    """Wait until the port is taken; false if the program ends before, or takes too long."""
    end = time.monotonic() + _START_SECONDS_MAX
    while not task.done() and time.monotonic() < end:
        with suppress(OSError):
            _, writer = await asyncio.open_connection(_HOST, port)
            writer.close()
            return True
        await asyncio.sleep(_POLL_SECONDS)
    return False
