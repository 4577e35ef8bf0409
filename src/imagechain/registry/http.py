"""One bounded HTTP exchange, redirects included. Knows nothing of registries, logins or retries.

Bodies may be streams, both ways: a blob is never held in memory or on disk.

Registries redirect blobs to storage at other hosts. `Authorization` never goes there: it is sent to the
origin that it was made for and to no other, and nothing that began with TLS goes on without it. Bodies are
bounded while they arrive, and one exchange has one time limit, so that no reply can hold the caller.
"""

import asyncio
import ssl
from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

import msgspec

from imagechain._version import __version__
from imagechain.registry.errors import UnreachableError, UntrustedReplyError

if TYPE_CHECKING:
    # Imported at the first request, for it would take a fifth of the start of a command that sends none.
    import httpx2

#: One exchange, redirects and body included.
EXCHANGE_SECONDS_MAX = 30.0
#: Until a connection is there.
CONNECT_SECONDS_MAX = 5.0
REDIRECTS_MAX = 5
#: Connections that are kept for the next requests.
IDLE_CONNECTIONS_MAX = 64
#: Slower streams than this are given up.
STREAM_BYTES_PER_SECOND_MIN = 64 * 1024
#: What a stream hands on at a time.
STREAM_CHUNK_BYTES = 256 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})

Method = Literal["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"]
#: Takes a part of a body, in order.
Sink = Callable[[bytes], Awaitable[None]]


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """What to ask."""

    method: Method
    url: str
    headers: dict[str, str] = {}
    body: bytes | AsyncIterable[bytes] = b""
    #: Largest body of a reply that is taken.
    reply_bytes_max: int
    #: Takes the body of a reply with status 200 instead of the reply.
    sink: Sink | None = None
    #: The whole exchange ends within this time; None: the usual one. A stream needs longer.
    seconds_max: float | None = None
    #: For messages: what it is asked for.
    subject: str

    def __repr__(self) -> str:
        # Headers and body hold secrets, and so may the query of a redirect.
        return f"Request({self.method} {_without_query(self.url)})"


class Reply(msgspec.Struct, frozen=True):
    """What was answered."""

    status: int
    #: Names in lower case.
    headers: Mapping[str, str]
    body: bytes
    #: All `WWW-Authenticate` headers: a reply may have several.
    challenges: tuple[str, ...] = ()


class Http:
    """Exchanges requests for replies over kept connections."""

    def __init__(self, transport: "httpx2.AsyncBaseTransport | None" = None) -> None:
        self._transport = transport
        self._opened: dict[bool, httpx2.AsyncClient] = {}

    def _client(self, *, is_tls: bool) -> "httpx2.AsyncClient":
        """Make the client at its first request, because reading the certificates takes a while.

        Plain HTTP has a client of its own, which needs none: its context trusts nobody.
        """
        from http.cookiejar import CookieJar, DefaultCookiePolicy  # noqa: PLC0415

        import httpx2  # noqa: PLC0415

        if is_tls not in self._opened:
            self._opened[is_tls] = httpx2.AsyncClient(
                transport=self._transport,
                # The certificates that the machine trusts (SSL_CERT_FILE too), an own CA among them.
                verify=ssl.create_default_context() if is_tls else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
                timeout=httpx2.Timeout(EXCHANGE_SECONDS_MAX, connect=CONNECT_SECONDS_MAX),
                limits=httpx2.Limits(max_connections=None, max_keepalive_connections=IDLE_CONNECTIONS_MAX),
                # No cookies: they would tie requests of different logins together, and grow.
                cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
                # Digests are of the bytes as stored.
                headers={"User-Agent": f"imagechain/{__version__}", "Accept-Encoding": "identity"},
            )
        return self._opened[is_tls]

    async def close(self) -> None:
        """Close the connections."""
        for client in self._opened.values():
            await client.aclose()

    async def exchange(self, request: Request) -> Reply:
        """Ask, follow redirects, and read the whole reply.

        Raises:
            UnreachableError: there was no reply, or not all of it in time.
            UntrustedReplyError: it is too large, or leads where it must not.
        """
        import httpx2  # noqa: PLC0415

        seconds_max = EXCHANGE_SECONDS_MAX if request.seconds_max is None else request.seconds_max
        try:
            async with asyncio.timeout(seconds_max):
                return await self._follow(request)
        except TimeoutError:
            problem = f"{_host(request.url)} did not answer within {seconds_max:g} s"
            raise UnreachableError(request.subject, problem, "is it overloaded?") from None
        except (httpx2.TransportError, OSError) as error:
            raise _unreachable(request, error) from error
        except (httpx2.InvalidURL, UnicodeError) as error:
            problem = f"{_without_query(request.url)!r} is no address that can be asked"
            raise UntrustedReplyError(request.subject, problem, "mend the name of the registry") from error

    async def _follow(self, request: Request) -> Reply:
        import httpx2  # noqa: PLC0415

        url, headers = httpx2.URL(request.url), dict(request.headers)
        for _ in range(REDIRECTS_MAX + 1):
            reply = await self._once(request, url, headers)
            location = reply.headers.get("location", "")
            if reply.status not in _REDIRECTS or not location or request.method not in {"GET", "HEAD"}:
                return reply
            target = url.join(location)
            if target.scheme not in {"https", url.scheme}:
                problem = f"{url.host} redirects from TLS to plain {target.scheme}"
                raise UntrustedReplyError(request.subject, problem, "ask the registry's administrator")
            if _origin(target) != _origin(url):
                headers.pop("Authorization", None)
            url = target
        problem = f"{_host(request.url)} redirects more than {REDIRECTS_MAX} times"
        raise UntrustedReplyError(request.subject, problem, "ask the registry's administrator")

    async def _once(self, request: Request, url: "httpx2.URL", headers: dict[str, str]) -> Reply:
        async with self._client(is_tls=url.scheme == "https").stream(
            request.method, url, headers=headers, content=request.body or None, follow_redirects=False
        ) as response:
            if response.headers.get("content-encoding", "identity") != "identity":
                # A few bytes can unpack to any number, and digests are of the bytes as stored.
                problem = f"{url.host} packs its reply, though it was asked not to"
                raise UntrustedReplyError(request.subject, problem, "ask the registry's administrator")
            body, length = bytearray(), 0
            sink = request.sink if response.status_code == 200 else None
            async for chunk in response.aiter_bytes(STREAM_CHUNK_BYTES if sink is not None else None):
                length += len(chunk)
                if length > request.reply_bytes_max:
                    problem = f"{url.host} sends more than {request.reply_bytes_max} bytes"
                    raise UntrustedReplyError(request.subject, problem, "is it an image at all?")
                if sink is None:
                    body += chunk
                else:
                    await sink(chunk)
            return Reply(
                response.status_code,
                {name.lower(): value for name, value in response.headers.items()},
                bytes(body),
                tuple(response.headers.get_list("www-authenticate")),
            )


def stream_seconds_max(size_bytes: int) -> float:
    """Tell how long a stream of so many bytes may take."""
    return EXCHANGE_SECONDS_MAX + size_bytes // STREAM_BYTES_PER_SECOND_MIN


def _origin(url: "httpx2.URL") -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def _host(url: str) -> str:
    return urlsplit(url).netloc.rpartition("@")[2]


def _without_query(url: str) -> str:
    return url.partition("?")[0]


def _unreachable(request: Request, error: Exception) -> UnreachableError:
    said = str(error) or type(error).__name__
    remedy = "is the name right, and the registry up?"
    if "CERTIFICATE_VERIFY_FAILED" in said:
        remedy = "let this machine trust its CA (SSL_CERT_FILE names a file of certificates)"
    elif "SSL" in said:
        remedy = "if it speaks plain HTTP, set `insecure = true` for this registry"
    return UnreachableError(request.subject, f"{_host(request.url)} could not be asked: {said}", remedy)
