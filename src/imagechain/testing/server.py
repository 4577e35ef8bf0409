"""Serves a simulated GitLab on a socket of this machine, for clients that cannot be given a transport."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from imagechain.testing.simulated import SimulatedGitLab

_HOST = "127.0.0.1"
START_SECONDS_MAX = 10.0


@contextmanager
def serving(gitlab: SimulatedGitLab, *, port: int = 0) -> Iterator[str]:
    """Serve in a thread while the block runs; its value is the URL, which the instance then calls its own."""
    with socket.create_server((_HOST, port)) as listener:
        url = f"http://{_HOST}:{listener.getsockname()[1]}"
        gitlab.settings.url = url
        config = uvicorn.Config(gitlab.app, log_level="error", lifespan="off", access_log=False)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        try:
            _await_start(server)
            yield url
        finally:
            server.should_exit = True
            thread.join()


def _await_start(server: uvicorn.Server) -> None:
    waited = threading.Event()
    for _ in range(int(START_SECONDS_MAX * 100)):
        if server.started:
            return
        waited.wait(0.01)
    raise TimeoutError(f"the simulated GitLab did not start within {START_SECONDS_MAX} seconds")
