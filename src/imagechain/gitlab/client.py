"""The one place where calls become requests: retries, budgets, redirections, the token and its rotation.

What is asked stands in the modules of calls, what answers mean in `answers`; here is only how they are sent.
No header of GitLab's webhooks (`X-Gitlab-*`) is ever sent: GitLab would take the request for the effect of
a webhook, and would block the hooks that follow from it.
"""

import asyncio
import math
import random
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Self

import httpx2
import msgspec
import structlog

from imagechain._version import __version__
from imagechain.circuit import CLOSED, FAILURES_MAX
from imagechain.config import ConfigError, GitLabSettings, read_secret, secret_path
from imagechain.gitlab.answers import next_page, read, unreachable
from imagechain.gitlab.call import Answer, Call, Item, Result
from imagechain.gitlab.errors import (
    ContractError,
    DownError,
    MovedError,
    NoAnswerError,
    OverloadedError,
    RateLimitedError,
    RefusedError,
    RetryableError,
    TokenError,
)

#: How often a call is sent before its error is given to the caller.
ATTEMPTS_MAX = 5
#: The wait before the second attempt; it doubles with each, and up to as much again is added by chance.
BACKOFF_SECONDS = 0.5
#: The longest wait within a call. If GitLab asks for more, the caller gets the error and decides.
WAIT_SECONDS_MAX = 90.0
#: Redirections that are followed: a project may have been renamed more than once.
REDIRECTIONS_MAX = 3
#: Most pages of one list.
PAGES_MAX = 5_000
PARALLEL_MAX = 16
CONNECT_SECONDS_MAX = 10.0
#: How long a request may take until the end of its answer, which may come byte by byte.
EXCHANGE_SECONDS_MAX = 100.0
#: What GitLab is asked to find out whether it is down.
_PROBE_PATH = "/api/v4/version"
#: How often it is told at most that answers do not come.
_TOLD_SECONDS_MIN = 60.0

_log = structlog.get_logger(__name__)


class Patience(msgspec.Struct, frozen=True, kw_only=True):
    """How long a GitLab is waited for that cannot be reached, or does not answer.

    Attributes:
        attempts_max: how often a call is sent while no connection is to be had.
        silent_attempts_max: how often it is sent while no answer comes.
        answer_seconds_max: how long an answer is waited for.
        probe_seconds_max: how long GitLab may take to say that it is not down.
    """

    attempts_max: int
    silent_attempts_max: int
    answer_seconds_max: float
    probe_seconds_max: float


#: Of a service. GitLab itself ends a request after 60 seconds.
PATIENT = Patience(
    attempts_max=ATTEMPTS_MAX,
    silent_attempts_max=ATTEMPTS_MAX,
    answer_seconds_max=65.0,
    probe_seconds_max=10.0,
)
#: Where a person waits: three seconds for a connection, and a quarter of a minute for an answer.
IMPATIENT = Patience(attempts_max=3, silent_attempts_max=1, answer_seconds_max=12.0, probe_seconds_max=3.0)


class Client:
    """Sends calls to one GitLab.

    Args:
        url: GitLab's address, as in `gitlab.url`.
        token: reads the token; read again when GitLab refuses the one in use, for it may have been rotated.
        ca_file: certificates of an own authority.
        patience: how long it is waited for that GitLab can be reached and answers.
        transport: how requests travel, for tests; over the network by default.
        sleep, now, chance: waiting, Unix time and a number below 1, for tests.
    """

    def __init__(
        self,
        url: str,
        token: Callable[[], str],
        *,
        ca_file: str = "",
        patience: Patience = PATIENT,
        transport: httpx2.AsyncBaseTransport | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        now: Callable[[], float] = time.time,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self.url = url.rstrip("/")
        self._read_token = token
        self._token = ""
        self._patience = patience
        self._sleep = sleep
        self._now = now
        self._chance = chance
        self._origin = _origin(httpx2.URL(self.url))
        self._turns = asyncio.Semaphore(PARALLEL_MAX)
        #: Until when GitLab wants no requests at all.
        self._closed_until = 0.0
        self._circuit = CLOSED
        self._probing = asyncio.Lock()
        #: When it was told last that an answer did not come.
        self._told_at = -math.inf
        #: Why GitLab refused the token when it was shown last; empty: it did not.
        self.token_trouble = ""
        #: Requests sent, for metrics and benchmarks.
        self.requests_sent = 0
        #: What is left of GitLab's own budget, if it tells.
        self.requests_left: int | None = None
        #: How far GitLab's clock is ahead of ours, if it tells its time; negative: behind.
        self.clock_ahead_seconds: float | None = None
        verify: ssl.SSLContext | bool = True
        if ca_file:
            verify = ssl.create_default_context()
            verify.load_verify_locations(ca_file)
        self._http = httpx2.AsyncClient(
            headers={"User-Agent": f"imagechain/{__version__}", "Accept": "application/json"},
            verify=verify,
            timeout=httpx2.Timeout(patience.answer_seconds_max, connect=CONNECT_SECONDS_MAX, pool=None),
            limits=httpx2.Limits(
                max_connections=PARALLEL_MAX, max_keepalive_connections=PARALLEL_MAX, keepalive_expiry=30.0
            ),
            follow_redirects=False,
            transport=transport,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    @property
    def down_since(self) -> float | None:
        """When GitLab had failed so often that it is only probed since (Unix time); None: it answers."""
        return self._circuit.opened_at

    @property
    def now_there(self) -> float:
        """The Unix time by GitLab's clock."""
        return self._now() + (self.clock_ahead_seconds or 0.0)

    @property
    def closed_seconds(self) -> float:
        """For how long GitLab wants no requests at all; calls wait that long before they are sent."""
        return max(self._closed_until - self._now(), 0.0)

    async def send(self, call: Call[Result]) -> Result:
        """Make a call and give its result; what may be repeated is, within bounds.

        Raises:
            GitLabError: it did not work; the message says what to do.
        """
        _, result = await self._send(call, self._address(call))
        return result

    async def pages(self, call: Call[tuple[Item, ...]]) -> AsyncIterator[tuple[Item, ...]]:
        """Make a call for a list, and give its pages one after the other."""
        address = self._address(call)
        for _ in range(PAGES_MAX):
            answer, rows = await self._send(call, address)
            yield rows
            following = next_page(answer)
            if following is None:
                return
            if following.isdigit():
                address = address.copy_set_param("page", following)
            else:
                address = self._same_server(call, httpx2.URL(following))
        raise ContractError(f"{call.about}: more than {PAGES_MAX} pages; ask for less")

    async def all(self, call: Call[tuple[Item, ...]]) -> tuple[Item, ...]:
        """Make a call for a list, and give all of it."""
        return tuple([row async for rows in self.pages(call) for row in rows])

    def _address(self, call: Call[Result]) -> httpx2.URL:
        return httpx2.URL(f"{self.url}{call.path}", params=call.params or None)

    def _same_server(self, call: Call[Result], address: httpx2.URL) -> httpx2.URL:
        """Refuse to follow GitLab to another server: the token would be sent there."""
        if _origin(address) != self._origin:
            raise MovedError(
                f"{call.about}: GitLab points to {address.scheme}://{address.netloc.decode()}, which is not "
                "gitlab.url; the token is not sent there. Set gitlab.url to GitLab's own address"
            )
        return address

    async def _send(self, call: Call[Result], address: httpx2.URL) -> tuple[Answer, Result]:
        """Repeat what may be repeated."""
        token = self._token or self._newest_token("")
        token_was_renewed = False
        attempt = 1
        while True:
            try:
                result = await self._follow(call, address, token)
            except TokenError as error:
                self.token_trouble = str(error)
                refused, token = token, self._newest_token(f"{error}; ")
                if token_was_renewed or token == refused:
                    raise
                token_was_renewed = True
            except RetryableError as error:
                wait = self._wait(error, attempt)
                is_repeated = (
                    call.idempotent
                    and not isinstance(error, DownError)
                    and not (call.splittable and isinstance(error, OverloadedError))
                )
                if not is_repeated or attempt >= self._attempts_max(error) or wait > WAIT_SECONDS_MAX:
                    raise
                attempt += 1
                await self._sleep(wait)
            else:
                self._token = token
                return result

    def _newest_token(self, why: str) -> str:
        """Read the token; a file that is not there just now is worth no more than a token that is refused."""
        try:
            return self._read_token()
        except ConfigError as error:
            self.token_trouble = f"{why}{error}"
            raise TokenError(self.token_trouble) from error

    def _attempts_max(self, error: RetryableError) -> int:
        if isinstance(error, NoAnswerError):
            return self._patience.silent_attempts_max
        answered = isinstance(error, OverloadedError | RateLimitedError)
        return ATTEMPTS_MAX if answered else self._patience.attempts_max

    def _wait(self, error: RetryableError, attempt: int) -> float:
        if isinstance(error, RateLimitedError) and error.all_calls:
            self._closed_until = max(self._closed_until, self._now() + (error.retry_after_seconds or 0))
        backoff: float = BACKOFF_SECONDS * 2 ** (attempt - 1) * (1 + self._chance())
        return max(error.retry_after_seconds or 0.0, backoff)

    async def _follow(self, call: Call[Result], address: httpx2.URL, token: str) -> tuple[Answer, Result]:
        """Send a request, and follow GitLab to the new path of a renamed project."""
        for _ in range(REDIRECTIONS_MAX + 1):
            answer = await self._exchange(call, address, token)
            location = answer.headers.get("location")
            if not (answer.status in {301, 302, 307, 308} and location and call.method == "GET"):
                return answer, read(call, answer, now=self._now())
            address = self._same_server(call, address.join(location))
        raise MovedError(f"{call.about}: more than {REDIRECTIONS_MAX} redirections; check gitlab.url")

    async def _exchange(self, call: Call[Result], address: httpx2.URL, token: str) -> Answer:
        async with self._turns:
            while (wait := self.closed_seconds) > 0:
                await self._sleep(wait)
            await self._check_circuit(call)
            request = self._http.build_request(
                call.method,
                address,
                content=call.body,
                headers={"PRIVATE-TOKEN": token}
                | ({"Content-Type": "application/json"} if call.body is not None else {}),
            )
            self.requests_sent += 1
            sent_at = self._now()
            try:
                async with asyncio.timeout(EXCHANGE_SECONDS_MAX):
                    response = await self._http.send(request, stream=True)
                    try:
                        body = await _body(call, response)
                    finally:
                        await response.aclose()
            except (TimeoutError, httpx2.TimeoutException) as error:
                message = (
                    f"{call.about}: GitLab did not answer within {self._now() - sent_at:.0f} s "
                    f"({type(error).__name__}); is it down or overloaded?"
                )
                self._tell(message)
                # Ten of them would take ten minutes, so one is enough to ask whether it is down.
                await self._note_failure(token, FAILURES_MAX)
                raise NoAnswerError(message) from error
            except httpx2.RemoteProtocolError as error:
                await self._note_failure(token)
                message = (
                    f"{call.about}: GitLab did not answer ({type(error).__name__}); it is asked again later"
                )
                raise OverloadedError(message) from error
            except httpx2.RequestError as error:
                await self._note_failure(token)
                raise unreachable(call, error) from error
            answer = Answer(response.status_code, dict(response.headers), body)
            if answer.status >= 500:
                await self._note_failure(token)
            else:
                self._circuit = CLOSED
                if answer.status != 401:
                    self.token_trouble = ""
        self._note_budget(answer)
        self._note_clock(answer, sent_at)
        return answer

    async def _check_circuit(self, call: Call[Result]) -> None:
        """Send nothing to a GitLab that is down, but for a probe now and then."""
        async with self._probing:
            circuit, now = self._circuit, self._now()
            if circuit.opened_at is None:
                return
            if circuit.wait_seconds(now) == 0:
                circuit = CLOSED if await self._lives(self._token) else circuit.sent(now)
                self._circuit = circuit
            if circuit.opened_at is not None:
                wait = circuit.wait_seconds(now)
                message = (
                    f"{call.about}: GitLab does not answer, and nothing is sent to it for {wait:.0f} s; "
                    "is it up, and gitlab.url right?"
                )
                raise DownError(message, retry_after_seconds=wait)

    async def _note_failure(self, token: str, count: int = 1) -> None:
        """Count a failure. It may be the call's own: too large, or about a project on which GitLab fails.

        So before GitLab counts as down, it is asked for what needs neither.
        """
        async with self._probing:
            before = self._circuit
            opens = before.opened_at is None and before.failed(self._now(), count).opened_at is not None
            lives = opens and await self._lives(token)
            self._circuit = CLOSED if lives else before.failed(self._now(), count)

    async def _lives(self, token: str) -> bool:
        """Ask GitLab for its version; whatever it answers, but a failure, it is not down."""
        self.requests_sent += 1
        address, headers = f"{self.url}{_PROBE_PATH}", {"PRIVATE-TOKEN": token}
        seconds = self._patience.probe_seconds_max
        try:
            async with (
                asyncio.timeout(seconds),
                self._http.stream("GET", address, headers=headers, timeout=seconds) as response,
            ):
                return response.status_code < 500
        except (TimeoutError, httpx2.RequestError):
            return False

    def _tell(self, message: str) -> None:
        """Say at once that an answer did not come: the caller asks again for minutes before it says so."""
        now = self._now()
        if self._patience.silent_attempts_max > 1 and not 0.0 <= now - self._told_at < _TOLD_SECONDS_MIN:
            self._told_at = now
            _log.warning("GitLab does not answer", why=message)

    def _note_clock(self, answer: Answer, sent_at: float) -> None:
        """Learn how far GitLab's clock is ahead: it told its second between the request and now.

        What fits to that is left as it is: times that are told twice are to be the same by our clock, too.
        """
        try:
            theirs = parsedate_to_datetime(answer.headers.get("date", ""))
        except ValueError:
            return
        least, most = theirs.timestamp() - self._now(), theirs.timestamp() + 1.0 - sent_at
        self.clock_ahead_seconds = min(max(self.clock_ahead_seconds or 0.0, least), most)

    def _note_budget(self, answer: Answer) -> None:
        """Stop before GitLab does: wait for the next period when its budget is spent."""
        left, reset = answer.headers.get("ratelimit-remaining"), answer.headers.get("ratelimit-reset")
        if left is None or not left.isdigit():
            return
        self.requests_left = int(left)
        if self.requests_left == 0 and reset is not None and reset.isdigit():
            # A clock that is wrong by hours must not stop us for hours.
            until = min(float(reset), self._now() + WAIT_SECONDS_MAX)
            self._closed_until = max(self._closed_until, until)


def connect(
    settings: GitLabSettings,
    environ: Mapping[str, str],
    *,
    is_patient: bool = True,
    now: Callable[[], float] = time.time,
) -> Client:
    """Make a client of the GitLab that the settings name.

    Args:
        settings: its address and its token's file.
        environ: the environment, for systemd credentials.
        is_patient: False: a person waits, and is told within seconds that GitLab cannot be reached or does
            not answer.
        now: our clock.

    Raises:
        ConfigError: a setting that is needed is missing, or a file that it names cannot be read.
    """
    if not settings.url:
        raise ConfigError("gitlab.url is not set; write GitLab's address, such as https://gitlab.example.com")
    if not settings.token_file:
        raise ConfigError(
            "gitlab.token_file is not set; name a file with an access token, scope read_api or api"
        )
    path = secret_path(settings.token_file, environ)
    read_secret(path)
    try:
        return Client(
            settings.url,
            lambda: read_secret(path),
            ca_file=settings.ca_file,
            patience=PATIENT if is_patient else IMPATIENT,
            now=now,
        )
    except OSError as error:  # ssl.SSLError is one
        raise ConfigError(f"gitlab.ca_file: {settings.ca_file}: {error.strerror or error}") from error


def _origin(address: httpx2.URL) -> tuple[str, str, int | None]:
    port = address.port or {"http": 80, "https": 443}.get(address.scheme)
    return address.scheme, address.host, port


async def _body(call: Call[Result], response: httpx2.Response) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > call.answer_bytes_max:
            message = f"{call.about}: GitLab's answer is larger than {call.answer_bytes_max} bytes"
            if call.splittable:
                raise OverloadedError(f"{message}; less is asked for at once")
            raise RefusedError(f"{message}, so it is not read; make what it lists or holds smaller")
    return bytes(body)
