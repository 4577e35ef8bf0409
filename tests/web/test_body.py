import asyncio
from collections.abc import Sequence

import pytest
from starlette.requests import Request
from starlette.types import Message

from imagechain.web.body import BodyError, BodyReader


def _request(messages: Sequence[Message], headers: Sequence[tuple[bytes, bytes]] = ()) -> Request:
    """Make a request whose body comes in these messages, and then no more."""
    waiting = list(messages)

    async def receive() -> Message:
        if waiting:
            return waiting.pop(0)
        await asyncio.sleep(3_600)
        raise AssertionError("nobody waits so long")

    return Request({"type": "http", "method": "POST", "headers": list(headers)}, receive)


def _chunk(data: bytes, more: bool = True) -> Message:
    return {"type": "http.request", "body": data, "more_body": more}


def test_a_body_is_put_together() -> None:
    request = _request([_chunk(b"ab"), _chunk(b""), _chunk(b"c", more=False)])
    assert asyncio.run(BodyReader().read(request, 3)) == b"abc"


@pytest.mark.parametrize(
    ("messages", "status"),
    [
        ([_chunk(b"abcd", more=False)], 413),
        ([_chunk(b"ab"), _chunk(b"cd")], 413),
        ([_chunk(b"ab"), {"type": "http.disconnect"}], 400),
        ([_chunk(b"ab")], 400),
    ],
)
def test_a_body_that_is_too_long_breaks_off_or_never_ends_is_refused(
    messages: list[Message], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imagechain.web.body.BODY_SECONDS_MAX", 0.05)
    with pytest.raises(BodyError) as caught:
        asyncio.run(BodyReader().read(_request(messages), 3))
    assert caught.value.status == status


def test_a_body_that_is_announced_too_long_is_not_read() -> None:
    request = _request([], [(b"content-length", b"4")])
    with pytest.raises(BodyError) as caught:
        asyncio.run(BodyReader().read(request, 3))
    assert caught.value.status == 413


def test_all_bodies_together_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imagechain.web.body.BODIES_BYTES_MAX", 10)
    monkeypatch.setattr("imagechain.web.body.BODY_SECONDS_MAX", 0.2)
    reader = BodyReader()

    async def read() -> list[int | None]:
        slow = [reader.read(_request([_chunk(b"1234")]), 5) for _ in range(3)]
        results = await asyncio.gather(*slow, return_exceptions=True)
        return [getattr(result, "status", None) for result in results]

    assert asyncio.run(read()) == [400, 400, 503]
    # Whatever became of them, they are not counted any more.
    assert asyncio.run(reader.read(_request([_chunk(b"12345", more=False)]), 5)) == b"12345"
