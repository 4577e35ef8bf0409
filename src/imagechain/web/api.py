"""`/api/v1`: what the service knows, for anybody who reaches it; what it should do, with the API token.

What people ask for is a hint like any other: it is stored, answered, and then followed up by the loop.
"""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable, Sequence

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from imagechain.chain import (
    Chain,
    Dependency,
    Pin,
    PlannedBuild,
    Problem,
    Source,
    SourceStatus,
    UnknownSourceError,
    explain,
    find_pins,
    plan,
    status,
)
from imagechain.service.commands import foresee
from imagechain.store import BuildRow, CascadeRow, Hint, HintKind, StoreError
from imagechain.web.answers import error_answer, json_answer
from imagechain.web.body import BodyError, BodyReader
from imagechain.web.ports import Service, Store
from imagechain.web.requests import ApiError, check_token, known_answer, nearest, need_known, notices_of

ASK_BYTES_MAX = 64 * 1024
ROWS_MAX = 1_000
_ROWS_DEFAULT = 100
_TEXT_CHARACTERS_MAX = 1_000
_ASKS: tuple[HintKind, ...] = ("rebuild", "pause", "resume", "retry", "reconcile")


class Ask(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a POST."""

    #: None: all.
    id: str | None = None
    #: All that is built from it too; `subtree` is the same, as `pause` calls it.
    downstream: bool = False
    subtree: bool = False
    reason: str = ""


class StatusAnswer(msgspec.Struct, frozen=True):
    """What `/api/v1/status` answers."""

    sources: tuple[SourceStatus, ...]
    #: References that are pinned by a digest, and where their tags are now.
    pins: tuple[Pin, ...] = ()
    #: What else a person should know: that webhooks do not arrive, that another replica acts,
    #: that GitLab or a registry does not answer.
    notices: tuple[str, ...] = ()


class GraphAnswer(msgspec.Struct, frozen=True):
    """What `/api/v1/graph` answers: the shape of `scan --format json`."""

    sources: tuple[Source, ...]
    dependencies: tuple[Dependency, ...]
    cycles: tuple[tuple[str, ...], ...]
    problems: tuple[Problem, ...]


class PlanAnswer(msgspec.Struct, frozen=True):
    """What `/api/v1/plan` answers."""

    builds: tuple[PlannedBuild, ...]


class BuildsAnswer(msgspec.Struct, frozen=True):
    """What `/api/v1/builds` answers."""

    builds: Sequence[BuildRow]


class CascadesAnswer(msgspec.Struct, frozen=True):
    """What `/api/v1/cascades` answers."""

    cascades: Sequence[CascadeRow]


_ask_decoder = msgspec.json.Decoder(Ask)


class Api:
    """Answers the requests below `/api/v1`."""

    def __init__(
        self, store: Store, service: Service, api_token: str, now: Callable[[], float] = time.time
    ) -> None:
        """Make the API.

        Raises:
            ValueError: the token is empty, so that anybody would have it.
        """
        if not api_token:
            raise ValueError("the API token is empty: make one with `openssl rand -hex 32`")
        self._store = store
        self._service = service
        self._token = api_token
        self._now = now
        self._bodies = BodyReader()

    def routes(self) -> list[Route]:
        """Give the routes, below the prefix."""
        return [
            Route("/status", self._status),
            Route("/graph", self._graph),
            Route("/explain/{id:path}", self._explain),
            Route("/plan", self._plan),
            Route("/builds", self._builds),
            Route("/cascades", self._cascades),
            *(Route(f"/{kind}", self._asked(kind), methods=["POST"]) for kind in _ASKS),
        ]

    # --- reading ----------------------------------------------------------------------------------------

    async def _status(self, _request: Request) -> Response:
        known = await need_known(self._service)
        pins = find_pins(known.chain.graph, known.digests)
        notices = notices_of(known, self._service)
        return known_answer(known, StatusAnswer(status(known.chain), pins, notices))

    async def _graph(self, _request: Request) -> Response:
        known = await need_known(self._service)
        cycles = tuple(cycle.members for cycle in known.chain.graph.cycles)
        scan = known.scan
        return known_answer(known, GraphAnswer(scan.sources, scan.dependencies, cycles, scan.problems))

    async def _explain(self, request: Request) -> Response:
        known = await need_known(self._service)
        source = request.path_params["id"]
        await _need_source(known.chain, source)
        return known_answer(known, explain(known.chain, source, self._now(), known.digests))

    async def _plan(self, request: Request) -> Response:
        known = await need_known(self._service)
        changed = request.query_params.get("if_changed")
        await _need_source(known.chain, changed)
        return known_answer(known, PlanAnswer(plan(known.chain, changed)))

    async def _builds(self, request: Request) -> Response:
        source = request.query_params.get("source")
        return json_answer(BuildsAnswer(await self._store.builds(_limit(request), source)))

    async def _cascades(self, request: Request) -> Response:
        return json_answer(CascadesAnswer(await self._store.cascades(_limit(request))))

    # --- asking -----------------------------------------------------------------------------------------

    def _asked(self, kind: HintKind) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            check_token(request, self._token)
            ask = _decode(await self._bodies.read(request, ASK_BYTES_MAX))
            hint = Hint(
                kind=kind,
                source=ask.id,
                by="a person",
                reason=ask.reason,
                downstream=ask.downstream or ask.subtree,
            )
            chain = (await need_known(self._service)).chain
            await _need_source(chain, hint.source)
            foreseen = foresee(chain, hint, self._now())
            await self._store.add_hint(hint, f"api:{uuid.uuid4().hex}", self._now())
            self._service.wake()
            return json_answer(foreseen, 202)

        return answer


def _decode(body: bytes) -> Ask:
    if not body.strip():
        return Ask()
    try:
        ask = _ask_decoder.decode(body)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise ApiError(400, f"the body is none that is understood: {error}") from error
    if len(ask.reason) > _TEXT_CHARACTERS_MAX or not ask.reason.isprintable():
        raise ApiError(400, f"reason must be one line of at most {_TEXT_CHARACTERS_MAX} characters")
    return ask


async def _need_source(chain: Chain, id: str | None) -> None:
    """Make sure that there is a source of this id, if one is named.

    Raises:
        ApiError: there is none; names the nearest ones.
    """
    if id is None or id in chain.graph.number:
        return
    # In a thread: among thousands of ids it takes a while.
    near = await asyncio.to_thread(nearest, id, chain.graph.ids)
    hint = f"did you mean {' or '.join(near)}?" if near else "`imagechain status` lists all of them"
    raise ApiError(404, f"there is no image {id!r}; {hint}")


def _limit(request: Request) -> int:
    text = request.query_params.get("limit", str(_ROWS_DEFAULT))
    if not (text.isascii() and text.isdecimal() and len(text) <= 6 and 1 <= int(text) <= ROWS_MAX):
        raise ApiError(400, f"limit must be a number from 1 to {ROWS_MAX}")
    return int(text)


async def answer_api_error(_request: Request, error: Exception) -> Response:
    """Turn an expected error into an answer."""
    if isinstance(error, ApiError | BodyError):
        return error_answer(error.status, str(error))
    if isinstance(error, UnknownSourceError):
        return error_answer(404, str(error))
    if isinstance(error, StoreError):
        return error_answer(503, str(error))
    raise error
