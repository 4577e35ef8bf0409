"""A server of webhooks in a process of its own, to be killed: `python -m web.hammered DATABASE_URL`."""

import asyncio
import socket
import sys

import uvicorn

from imagechain.store import open_store
from imagechain.web import make_app
from web.parts import API_TOKEN, HOOK_KEY, FakeService


def main(url: str) -> None:
    store = open_store(url)
    app = make_app(store, FakeService(), hook_key=HOOK_KEY, api_token=API_TOKEN)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", access_log=False, lifespan="off"))
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()  # From now on nobody is refused.
    sys.stdout.write(f"{listener.getsockname()[1]}\n")
    sys.stdout.flush()
    asyncio.run(server.serve([listener]))


if __name__ == "__main__":
    main(sys.argv[1])
