"""Servers that hang, trickle, break off or speak something else, on real sockets."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from imagechain.config import RegistrySettings
from imagechain.refs import parse_reference
from imagechain.registry import RegistryClient, UnreachableError
from imagechain.registry import http as http_module


@contextlib.asynccontextmanager
async def raw_server(
    talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    """Run a server that does whatever it likes; give its address."""

    talks: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        talks.add(asyncio.current_task())
        with contextlib.suppress(ConnectionError):
            await talk(reader, writer)
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        async with server:
            yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        await asyncio.gather(*(talk for talk in talks if talk is not None))


def ask_raw(talk: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> None:
    async def run() -> None:
        async with raw_server(talk) as address:
            settings = {address: RegistrySettings(insecure=True)}
            async with RegistryClient(settings=settings) as client:
                await client.manifest(parse_reference(f"{address}/group/base"))

    asyncio.run(run())


def test_a_registry_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_module, "EXCHANGE_SECONDS_MAX", 0.2)

    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    with pytest.raises(UnreachableError, match=r"0\.2 s"):
        ask_raw(hang)


def test_a_body_that_trickles_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_module, "EXCHANGE_SECONDS_MAX", 0.3)

    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        while True:
            writer.write(b" ")
            await writer.drain()
            await asyncio.sleep(0.02)

    with pytest.raises(UnreachableError, match=r"0\.3 s"):
        ask_raw(trickle)


def test_a_connection_that_breaks_in_the_body_is_no_manifest() -> None:
    async def stop_early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
        await writer.drain()

    with pytest.raises(UnreachableError):
        ask_raw(stop_early)


def test_something_that_is_not_http_is_unreachable() -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.com ESMTP\r\n")
        await writer.drain()

    with pytest.raises(UnreachableError):
        ask_raw(greet)
