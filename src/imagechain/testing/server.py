"""Serves a simulated GitLab on a socket of this machine, for clients that cannot be given a transport."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import asynccontextmanager, contextmanager

import uvicorn

from imagechain.testing.simulated import SimulatedGitLab

_HOST = "127.0.0.1"


class _Server(uvicorn.Server):
    """A server that leaves signals to the program it is part of."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield


@asynccontextmanager
async def serving_here(gitlab: SimulatedGitLab, *, port: int = 0) -> AsyncIterator[str]:
    """Serve in the running event loop while the block runs, so that scripts and requests never overlap.

    The socket listens from the start, so that requests may be sent at once. The value of the block is the
    URL, which the instance then calls its own.
    """
    with socket.create_server((_HOST, port)) as listener:
        server, url = _server(gitlab, listener)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield url
        finally:
            server.should_exit = True
            await task


@contextmanager
def serving(gitlab: SimulatedGitLab, *, port: int = 0) -> Iterator[str]:
    """Serve in a thread while the block runs, for clients that block; otherwise as `serving_here`."""
    with socket.create_server((_HOST, port)) as listener:
        server, url = _server(gitlab, listener)
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            yield url
        finally:
            server.should_exit = True
            thread.join()


def _server(gitlab: SimulatedGitLab, listener: socket.socket) -> tuple[_Server, str]:
    url = f"http://{_HOST}:{listener.getsockname()[1]}"
    gitlab.settings.url = url
    return _Server(uvicorn.Config(gitlab.app, log_level="error", lifespan="off", access_log=False)), url
