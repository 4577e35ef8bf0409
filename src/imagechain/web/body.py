"""Reads the bodies of requests within bounds of size, time and memory."""

import asyncio

from starlette.requests import ClientDisconnect, Request

#: How long a client may take to send a body.
BODY_SECONDS_MAX = 10.0
#: Bodies that are being read at the same moment, together.
BODIES_BYTES_MAX = 64 * 1024 * 1024


class BodyError(Exception):
    """The body was not taken.

    Attributes:
        status: the HTTP status that says so.
    """

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class BodyReader:
    """Reads bodies, and counts what they hold together."""

    def __init__(self) -> None:
        self._bytes = 0

    async def read(self, request: Request, bytes_max: int) -> bytes:
        """Read the whole body of a request.

        Raises:
            BodyError: it is too large, too slow, or broke off; or too many others are being read.
        """
        announced = request.headers.get("content-length", "")
        if announced.isdecimal() and int(announced[:20]) > bytes_max:
            raise BodyError(413, f"the body has more than {bytes_max} bytes")
        chunks: list[bytes] = []
        taken = 0
        try:
            async with asyncio.timeout(BODY_SECONDS_MAX):
                async for chunk in request.stream():
                    chunks.append(chunk)
                    taken += len(chunk)
                    self._bytes += len(chunk)
                    if taken > bytes_max:
                        raise BodyError(413, f"the body has more than {bytes_max} bytes")
                    if self._bytes > BODIES_BYTES_MAX:
                        raise BodyError(503, "too many bodies are being read: try again later")
        except TimeoutError as error:
            raise BodyError(400, f"the body did not arrive within {BODY_SECONDS_MAX:.0f} s") from error
        except ClientDisconnect as error:
            raise BodyError(400, "the body broke off") from error
        finally:
            self._bytes -= taken
        return b"".join(chunks)
