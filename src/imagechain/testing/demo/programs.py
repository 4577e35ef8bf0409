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
        SimulationError: it does not listen soon; the message holds the end of what it said.
    """
    with log.open("wb", buffering=0) as file:
        task = asyncio.create_task(process.stream(argv, file.write, temporary=log.parent))
        try:
            if not await _listens(task, port):
                raise SimulationError(f"{log.stem} does not listen on port {port}; it said:\n{end_of(log)}")
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


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
