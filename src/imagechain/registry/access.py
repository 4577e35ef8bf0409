"""Requests to a repository: with the right login, within the budget, tried again where that may help.

Knows the ways in (tokens, passwords, limits) and nothing of what is asked for.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Mapping
from typing import Literal
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

import msgspec

from imagechain.circuit import CLOSED, Circuit
from imagechain.config import RegistrySettings
from imagechain.registry import challenge as challenges
from imagechain.registry.budget import Budget, retry_after_seconds
from imagechain.registry.cache import Cache
from imagechain.registry.challenge import Challenge
from imagechain.registry.complaint import complaint_of
from imagechain.registry.credentials import Credential, Credentials, login_hint
from imagechain.registry.errors import (
    DeniedError,
    DownError,
    RateLimitedError,
    ServerFailedError,
    UncheckedError,
    UnreachableError,
    UntrustedReplyError,
)
from imagechain.registry.http import Http, Method, Reply, Request, Sink
from imagechain.registry.mirrors import Endpoint

#: Requests that one registry gets at the same time, and all registries together.
CONNECTIONS_PER_REGISTRY_MAX = 8
CONNECTIONS_MAX = 64
#: How often a request is tried; a mirror gets one try, because the registry itself comes after it.
ATTEMPTS_MAX = 3
#: A closed registry is waited for this long; for longer waits the caller is told when to come back.
WAIT_SECONDS_MAX = 10.0
#: How long a registry may take to say that it is there.
PROBE_SECONDS_MAX = 10.0
#: Largest answer of a token service.
TOKEN_BYTES_MAX = 64 * 1024
#: Registries, repositories and logins of which something is remembered, and the characters of all tokens.
REMEMBERED_MAX = 10_000
TOKEN_CHARACTERS_MAX = 16 * 1024 * 1024

Clock = Callable[[], float]
Sleep = Callable[[float], Awaitable[None]]


class Call(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked of a repository."""

    method: Method
    #: Below the repository: `/manifests/latest`; or the URL that the registry gave for the rest of an upload.
    path: str
    headers: dict[str, str] = {}
    body: bytes | AsyncIterable[bytes] = b""
    reply_bytes_max: int
    sink: Sink | None = None
    seconds_max: float | None = None
    #: What is done in the repository, as tokens name it.
    actions: Literal["pull", "pull,push", "delete"] = "pull"
    #: Another repository of the registry that is read at the same time.
    pull_from: str = ""
    #: Whether it counts for our own pace. Carrying images does not: it is bounded by its connections.
    is_paced: bool = True
    #: Whether registries count it as a pull.
    pull: bool = False
    #: For messages: what is asked for.
    subject: str
    attempts_max: int = ATTEMPTS_MAX


class Access:
    """The way to all registries."""

    def __init__(
        self,
        http: Http,
        credentials: Credentials,
        settings: Mapping[str, RegistrySettings],
        *,
        leaves_reserve: bool,
        clock: Clock,
        sleep: Sleep,
    ) -> None:
        self._http = http
        self._credentials = credentials
        self._settings = settings
        self._leaves_reserve = leaves_reserve
        self._clock = clock
        self._sleep = sleep
        self._everywhere = asyncio.Semaphore(CONNECTIONS_MAX)
        self._slots: WeakValueDictionary[str, asyncio.Semaphore] = WeakValueDictionary()
        self._token_locks: WeakValueDictionary[object, asyncio.Lock] = WeakValueDictionary()
        #: By host and account.
        self._budgets: Cache[tuple[str, str], Budget] = Cache(REMEMBERED_MAX, clock)
        #: Of hosts that failed last.
        self._circuits: Cache[str, Circuit] = Cache(REMEMBERED_MAX, clock)
        #: What was asked for, by origin and scope; without a scope, what any repository there may ask for.
        self._challenges: Cache[tuple[str, str], Challenge] = Cache(REMEMBERED_MAX, clock)
        #: By account: a token of one login is not shown for another, nor that of one repository for another.
        self._tokens: Cache[tuple[Challenge, str], str] = Cache(TOKEN_CHARACTERS_MAX, clock)

    async def request(self, endpoint: Endpoint, call: Call) -> Reply:
        """Ask a repository; the reply may have any status but those of a failure that passes.

        Raises:
            UncheckedError: there is no reply, or none that may be used.
        """
        from imagechain.registry.retrying import retrying  # noqa: PLC0415

        return await retrying(call.attempts_max)(worth_another_try, self._attempt, endpoint, call)

    async def _attempt(self, endpoint: Endpoint, call: Call) -> Reply:
        credential = await self._credentials.find(endpoint.domain, endpoint.path)
        scope = challenges.scope_of(endpoint.path, call.actions, call.pull_from)
        known = self._remembered_challenge(endpoint, scope)
        authorization = "" if known is None else await self._authorize(endpoint, known, credential, call)
        reply = await self._ask(endpoint, call, credential, authorization)
        # A stream was read up: whoever gave it has to begin again.
        if reply.status == 401 and isinstance(call.body, bytes):
            asked = challenges.choose_challenge(reply.challenges, scope)
            if asked is None:
                problem = f"{endpoint.domain} wants a login of a kind that is not known"
                raise DeniedError(call.subject, problem, "put a registry with Basic or Bearer logins there")
            self._challenges.put((endpoint.origin, scope), asked)
            self._challenges.put((endpoint.origin, ""), asked)
            authorization = await self._authorize(endpoint, asked, credential, call, refused=authorization)
            reply = await self._ask(endpoint, call, credential, authorization)
        if reply.status in {401, 403}:
            # Where the login was changed in the meantime, the next request takes the new one.
            self._credentials.forget(endpoint.domain, endpoint.path)
        return reply

    async def _ask(
        self, endpoint: Endpoint, call: Call, credential: Credential | None, authorization: str
    ) -> Reply:
        url = endpoint.url + call.path if call.path.startswith("/") else call.path
        headers = dict(call.headers)
        # An upload may go on at another host, which the login is not for.
        if authorization and url.startswith(f"{endpoint.origin}/"):
            headers["Authorization"] = authorization
        request = Request(
            method=call.method,
            url=url,
            headers=headers,
            body=call.body,
            reply_bytes_max=call.reply_bytes_max,
            sink=call.sink,
            seconds_max=call.seconds_max,
            subject=call.subject,
        )
        return await self._send(endpoint.domain, credential, request, pull=call.pull, is_paced=call.is_paced)

    # --- logins ---------------------------------------------------------------------------------------------

    def _remembered_challenge(self, endpoint: Endpoint, scope: str) -> Challenge | None:
        own = self._challenges.get((endpoint.origin, scope))
        general = self._challenges.get((endpoint.origin, ""))
        if own is not None or general is None or general.is_basic:
            return own or general
        return msgspec.structs.replace(general, scope=scope)

    async def _authorize(
        self,
        endpoint: Endpoint,
        challenge: Challenge,
        credential: Credential | None,
        call: Call,
        *,
        refused: str = "",
    ) -> str:
        """Give the `Authorization` that meets a challenge; not the one that was just refused."""
        if challenge.is_basic:
            if credential is None or not credential.password:
                problem = f"{endpoint.domain} wants a login, and none is known"
                raise DeniedError(call.subject, problem, login_hint(endpoint.domain))
            return challenges.basic_authorization(credential.username, credential.password)
        key = (challenge, _account(credential))
        # Requests that need the same token wait for one of them to fetch it.
        lock = self._token_locks.setdefault(key, asyncio.Lock())
        async with lock:
            token = self._tokens.get(key)
            if token is None or refused == f"Bearer {token}":
                token = await self._fetch_token(endpoint, challenge, credential, call)
            return f"Bearer {token}"

    async def _fetch_token(
        self, endpoint: Endpoint, challenge: Challenge, credential: Credential | None, call: Call
    ) -> str:
        service = challenge.realm.partition("://")[2].partition("/")[0]
        if not endpoint.insecure and not challenge.realm.startswith("https://"):
            problem = f"{endpoint.domain} sends logins to {service} without TLS"
            raise UntrustedReplyError(call.subject, problem, "ask the registry's administrator")
        request = _token_request(challenge, credential, call)
        reply = await self._send(service, credential, request)
        if reply.status != 200:
            self._credentials.forget(endpoint.domain, endpoint.path)
            who = credential.username if credential is not None else "anybody"
            problem = f"{service} gives {who} no token for {endpoint} (status {reply.status})"
            raise DeniedError(call.subject, problem, f"check the name, or {login_hint(endpoint.domain)}")
        try:
            token = challenges.decode_token(reply.body)
        except ValueError as error:
            # What was decoded may be a secret: only the kind of failure is told.
            problem = f"{service} did not answer as a token service does ({type(error).__name__})"
            raise UntrustedReplyError(call.subject, problem, "ask the registry's administrator") from None
        key = (challenge, _account(credential))
        self._tokens.put(key, token.text, seconds=token.seconds, weight=len(token.text))
        return token.text

    # --- limits ---------------------------------------------------------------------------------------------

    async def _send(
        self,
        host: str,
        credential: Credential | None,
        request: Request,
        *,
        pull: bool = False,
        is_paced: bool = True,
    ) -> Reply:
        """Send a request when its turn comes, and keep account."""
        key = (host, _account(credential))
        async with self._slot(host):
            start_at = self._take_turn(key, request, pull=pull, is_paced=is_paced)
            try:
                if start_at > self._clock():
                    await self._sleep(start_at - self._clock())
                await self._check_circuit(host, request)
                reply = await self._http.exchange(request)
            except UnreachableError:
                await self._note_failure(host, request)
                raise
            finally:
                if pull:
                    self._budgets.put(key, self._budget(key).pull_ended())
            now = self._clock()
        budget = self._budget(key)
        wait_seconds = retry_after_seconds(reply.headers)
        if reply.status == 429 or (reply.status == 503 and wait_seconds is not None):
            budget = budget.refused(now, wait_seconds)
            self._budgets.put(key, budget)
            problem = f"{host} answered {reply.status}, for too many requests"
            raise RateLimitedError(request.subject, problem, budget.closed_until - now)
        self._budgets.put(key, budget.answered(now, reply.headers, pull=pull))
        # 501 is how some registries say that they know no HEAD: no failure that passes.
        if reply.status == 408 or (reply.status >= 500 and reply.status != 501):
            await self._note_failure(host, request)
            problem = f"{host} answered {reply.status}{complaint_of(reply)}"
            raise ServerFailedError(request.subject, problem, "see the registry's log")
        self._circuits.drop(host)
        return reply

    async def _check_circuit(self, host: str, request: Request) -> None:
        """Send nothing to a registry that is down, but for a probe now and then."""
        circuit, now = self._circuits.get(host) or CLOSED, self._clock()
        if circuit.opened_at is None:
            return
        if circuit.wait_seconds(now) == 0:
            circuit = circuit.sent(now)
            self._circuits.put(host, circuit)
            if await self._lives(request):
                self._circuits.drop(host)
                return
        problem = f"{host} failed {circuit.failures} times in a row"
        raise DownError(request.subject, problem, circuit.wait_seconds(now))

    async def _note_failure(self, host: str, request: Request) -> None:
        """Count a failure; one repository may cause it, so the registry is asked before it counts as down."""
        before = self._circuits.get(host) or CLOSED
        circuit = before.failed(self._clock())
        opens = before.opened_at is None and circuit.opened_at is not None
        if opens and await self._lives(request):
            self._circuits.drop(host)
        else:
            self._circuits.put(host, circuit)

    async def _lives(self, request: Request) -> bool:
        """Ask for what every registry has; any answer but a failure will do."""
        url = urlsplit(request.url)
        probe = Request(
            method="GET",
            url=f"{url.scheme}://{url.netloc}/v2/",
            reply_bytes_max=TOKEN_BYTES_MAX,
            seconds_max=PROBE_SECONDS_MAX,
            subject=request.subject,
        )
        try:
            return (await self._http.exchange(probe)).status < 500
        except UncheckedError:
            return False

    @contextlib.asynccontextmanager
    async def _slot(self, host: str) -> AsyncIterator[None]:
        slots = self._slots.setdefault(host, asyncio.Semaphore(CONNECTIONS_PER_REGISTRY_MAX))
        async with slots, self._everywhere:
            yield

    def _budget(self, key: tuple[str, str]) -> Budget:
        settings = self._settings.get(key[0], RegistrySettings())
        reserved = settings.pulls_reserved_percent if self._leaves_reserve else 0
        return self._budgets.get(key) or Budget(settings.requests_per_minute_max, reserved)

    def _take_turn(self, key: tuple[str, str], request: Request, *, pull: bool, is_paced: bool) -> float:
        """Enter a request into its budget; tell when it may be sent."""
        budget, now = self._budget(key), self._clock()
        opens_at = budget.opens_at(pull=pull)
        if opens_at - now > WAIT_SECONDS_MAX:
            raise RateLimitedError(request.subject, _why_closed(key[0], budget, now), opens_at - now)
        start_at = max(now, opens_at)
        if is_paced:
            budget, start_at = budget.take(start_at)
        self._budgets.put(key, budget.pull_began() if pull else budget)
        return start_at


def _why_closed(host: str, budget: Budget, now: float) -> str:
    if budget.closed_until > now or budget.quota is None:
        return f"{host} wants no requests now"
    left = budget.quota.remaining
    if budget.reserved_percent and left > 0:
        return f"{host} grants {left} more pulls, which are left to hosts and builds"
    return f"{host} wants no pulls now"


def _account(credential: Credential | None) -> str:
    return credential.username if credential is not None else ""


def _token_request(challenge: Challenge, credential: Credential | None, call: Call) -> Request:
    if credential is not None and credential.identity_token:
        return Request(
            method="POST",
            url=challenge.realm,
            headers={"Content-Type": "application/x-www-form-urlencoded"},
            body=challenges.refresh_form(challenge, credential.identity_token),
            reply_bytes_max=TOKEN_BYTES_MAX,
            subject=call.subject,
        )
    headers: dict[str, str] = {}
    if credential is not None:
        headers["Authorization"] = challenges.basic_authorization(credential.username, credential.password)
    return Request(
        method="GET",
        url=challenges.token_url(challenge, _account(credential)),
        headers=headers,
        reply_bytes_max=TOKEN_BYTES_MAX,
        subject=call.subject,
    )


def worth_another_try(error: Exception) -> bool | float:
    """Tell whether, and after which pause, a request is tried again."""
    if isinstance(error, RateLimitedError):
        # The budget waits by itself until the registry opens, if that is soon.
        return 0.01 if error.retry_after_seconds <= WAIT_SECONDS_MAX else False
    return isinstance(error, (UnreachableError, ServerFailedError))
