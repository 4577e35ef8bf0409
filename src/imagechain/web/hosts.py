"""`/api/v1/hosts`: what hosts say that they run, and what the service makes of it.

A host shows a token of its own, with which it can do nothing but report, and for itself only.
"""

import asyncio
from collections.abc import Callable

import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from imagechain.hosts.report import REPORT_BYTES_MAX, HostReport
from imagechain.service.fix_ways import FixWay
from imagechain.service.host_tokens import HostTokens
from imagechain.service.hosts_known import HostsAnswer, hosts_known, read_reports, read_ways, ways_to_keep
from imagechain.service.known import Known
from imagechain.store import HostRow
from imagechain.web.answers import json_answer
from imagechain.web.body import BodyReader
from imagechain.web.ports import Service, Store
from imagechain.web.requests import ApiError, bearer, check_token, known_answer, need_known

#: To look at 1,000 hosts of 20 containers takes two thirds of a second, so it is done every ten.
_HOSTS_PER_SECOND = 100

_decoder = msgspec.json.Decoder(HostReport)


class Hosts:
    """Answers the requests to `/api/v1/hosts`."""

    def __init__(
        self, store: Store, service: Service, tokens: HostTokens, api_token: str, now: Callable[[], float]
    ) -> None:
        self._store = store
        self._service = service
        self._tokens = tokens
        self._token = api_token
        self._now = now
        self._bodies = BodyReader()
        #: From when on it is worth the time to look at all hosts again.
        self._look_at = 0.0

    def routes(self) -> list[Route]:
        """Give the routes, below the prefix of the API."""
        return [
            Route("/hosts", self._tell, methods=["GET"]),
            Route("/hosts", self._hear, methods=["POST"]),
            Route("/hosts/{name}", self._forget, methods=["DELETE"]),
        ]

    async def _tell(self, _request: Request) -> Response:
        known = await need_known(self._service)
        return known_answer(known, (await look_at_hosts(self._store, known, self._now()))[0])

    async def _hear(self, request: Request) -> Response:
        name = self._tokens.host_of(bearer(request))
        if name is None:
            raise ApiError(
                401, "a host reports with its own token: `imagechain hosts token NAME`, where the service is"
            )
        body = await self._bodies.read(request, REPORT_BYTES_MAX)
        try:
            report = _decoder.decode(body)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise ApiError(
                400,
                f"the report is none that is understood: {error}; if this host has a newer imagechain, bring "
                "the service up to it",
            ) from error
        row = HostRow(name=name, heard_at=self._now(), body=msgspec.json.encode(report).decode())
        if not await self._store.put_host(row):
            raise ApiError(
                507, "there is no room for one more host; `imagechain hosts forget NAME` makes some"
            )
        await self._keep_ways()
        return json_answer({"host": name})

    async def _keep_ways(self) -> None:
        """Remember how far fixes have come by now; of many hosts, not after each report."""
        known = await self._service.known() if self._now() >= self._look_at else None
        if known is not None:
            answer, kept = await look_at_hosts(self._store, known, self._now())
            self._look_at = self._now() + len(answer.hosts) // _HOSTS_PER_SECOND
            if news := ways_to_keep(answer.ways, kept):
                await self._store.put_ways(news)

    async def _forget(self, request: Request) -> Response:
        check_token(request, self._token)
        name = request.path_params["name"]
        if not await self._store.forget_host(name):
            raise ApiError(404, f"no host {name!r} has reported")
        return json_answer({"host": name})


async def look_at_hosts(store: Store, known: Known, now: float) -> tuple[HostsAnswer, list[FixWay]]:
    """Tell what the hosts run, and what was kept of it."""
    reports = await asyncio.to_thread(read_reports, await store.hosts())
    kept = await asyncio.to_thread(read_ways, await store.ways())
    return hosts_known(known, reports, kept, now), kept
