"""Puts the web app together: webhooks, API, dashboard, health, metrics. It decides and starts nothing."""

import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route

from imagechain.chain import UnknownSourceError
from imagechain.gitlab.hook_secrets import HookSecrets
from imagechain.service.host_tokens import HostTokens
from imagechain.service.loop import TURN_SECONDS_MAX
from imagechain.service.upkeep import HOOKS_PATH
from imagechain.store import StoreError
from imagechain.web.answers import error_answer, json_answer
from imagechain.web.api import Api, answer_api_error
from imagechain.web.body import BodyError
from imagechain.web.dashboard import Dashboard
from imagechain.web.hooks import HookIntake
from imagechain.web.hosts import Hosts
from imagechain.web.metrics import MetricsPage
from imagechain.web.ports import Service, Store
from imagechain.web.requests import ApiError, trouble_with_gitlab


def make_app(
    store: Store,
    service: Service,
    *,
    hook_key: bytes,
    api_token: str,
    now: Callable[[], float] = time.time,
    machine_now: Callable[[], float] = time.time,
) -> Starlette:
    """Make the web app.

    Args:
        store: where hints are put.
        service: what is asked, and woken up.
        hook_key: from which the secrets of all hooks and the tokens of hosts are derived.
        api_token: needed by requests that change something.
        now: the service's clock (Unix time in seconds).
        machine_now: the machine's clock, by which signatures are checked: the service's is of its start, so
            it stays wrong after the machine's has been set right.

    Raises:
        ValueError: the key or the token is too short to be a secret.
    """
    metrics = CollectorRegistry()
    intake = HookIntake(store, service, HookSecrets(hook_key), metrics, now=now, machine_now=machine_now)
    api = Api(store, service, api_token, now)
    hosts = Hosts(store, service, HostTokens(hook_key), api_token, now)

    async def healthz(_request: Request) -> Response:
        silent_seconds = now() - service.turned_at
        if silent_seconds > TURN_SECONDS_MAX:
            return error_answer(503, f"the loop has not turned for {silent_seconds:.0f} s")
        await store.ping()
        # A GitLab that is down, or refuses the token, is no reason to start this service again.
        return json_answer(
            {
                "ok": True,
                "gitlab_down_since": service.gitlab_down_since,
                "gitlab_trouble": trouble_with_gitlab(service),
            }
        )

    return Starlette(
        routes=[
            Route(HOOKS_PATH, intake.answer, methods=["POST"]),
            Route(HOOKS_PATH + "/groups/{group:path}", intake.answer, methods=["POST"]),
            Mount("/api/v1", routes=[*api.routes(), *hosts.routes()]),
            Route("/healthz", healthz),
            Route("/metrics", MetricsPage(store, service, metrics, now).answer),
            *Dashboard(store, service, now).routes(),
        ],
        exception_handlers=dict.fromkeys(
            (ApiError, BodyError, UnknownSourceError, StoreError), answer_api_error
        ),
    )
