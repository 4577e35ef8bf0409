"""`imagechain serve` and `sync`: the service, and what it does about the groups, once."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Generator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Annotated

import msgspec
import structlog
import uvicorn
from cyclopts import Parameter
from starlette.applications import Starlette

from imagechain.chain import Chain
from imagechain.cli.errors import EXIT_FAILED
from imagechain.cli.history import history_file
from imagechain.cli.log import log_to_stderr
from imagechain.cli.output import Format, print_error_lines, print_json, print_lines
from imagechain.cli.settings import need_groups, need_service_settings
from imagechain.cli.wiring import NoCache, hook_settings, named_secret, open_gitlab, registry_client
from imagechain.config import ConfigError, Settings
from imagechain.gitlab.client import Client
from imagechain.service.acting import Ports
from imagechain.service.bots.forge import GitLabBots
from imagechain.service.clock import SystemClock
from imagechain.service.forge import none_left
from imagechain.service.hook_rounds import HookRounds, keep_all
from imagechain.service.known import Known
from imagechain.service.loop import TURN_SECONDS_MAX, Service, service_settings
from imagechain.service.ports import RefusedError
from imagechain.service.registry_images import RegistryImages
from imagechain.service.systemd import notify, watchdog_seconds
from imagechain.service.tag_looks import TagLooks
from imagechain.service.upkeep import HookKeeper, HookReport
from imagechain.store import Store, open_store, sqlite_caution, sqlite_path
from imagechain.web import Measure, make_app

Config = Annotated[Path | None, Parameter(name="--config")]

#: How long requests that are being answered may take at the end.
_STOP_SECONDS_MAX = 5
_BACKLOG_CONNECTIONS = 2_048

_log = structlog.get_logger(__name__)


def serve(*, config: Config = None) -> int:
    """Keep the chain of GitLab groups built: webhooks, reconcile, pipelines, API, dashboard, metrics.

    Args:
        config: The settings; by default imagechain.toml here, or in /etc/imagechain.
    """
    settings = need_service_settings(config)
    need_groups(settings)
    log_to_stderr()
    asyncio.run(_serve(settings))
    return 0


def sync(*, config: Config = None, format: Format = "table") -> int:
    """Read the groups, and install, repair and remove webhooks; works with or without a running service.

    Args:
        config: The settings; by default imagechain.toml here, or in /etc/imagechain.
        format: How the answer is printed.
    """
    settings = need_service_settings(config)
    need_groups(settings)
    log_to_stderr()
    synced = asyncio.run(_sync(settings))
    if format == "json":
        print_json(synced)
    else:
        hooks = synced.hooks
        print_lines(
            (
                f"{synced.projects} projects, {synced.dependencies} dependencies",
                f"webhooks added: {len(hooks.created)}",
                f"webhooks repaired: {len(hooks.repaired)}",
                f"webhooks enabled again: {len(hooks.enabled)}",
                f"webhooks removed: {len(hooks.removed)}",
            )
        )
    undone = (*synced.hooks.refused, *synced.hooks.failed)
    print_error_lines(f"a webhook cannot be kept: {why}" for _, why in undone)
    return EXIT_FAILED if undone else 0


class Synced(msgspec.Struct, frozen=True, kw_only=True):
    """What `sync --format json` prints."""

    projects: int
    dependencies: int
    hooks: HookReport


# --- wiring ---------------------------------------------------------------------------------------------


async def _serve(settings: Settings) -> None:
    hook_key = named_secret(settings.server.hook_key_file, "server.hook_key_file").encode()
    api_token = named_secret(settings.server.api_token_file, "server.api_token_file")
    clock = SystemClock()
    store = open_store(settings.store.url)
    if sqlite_path(settings.store.url) is not None and (caution := sqlite_caution()):
        _log.warning(caution)
    try:
        async with _world(settings, store, clock) as (client, ports):
            service = Service(ports, service_settings(settings))
            view = _View(service, client)
            try:
                app = make_app(store, view, hook_key=hook_key, api_token=api_token, now=clock.now)
            except ValueError as error:
                raise ConfigError(f"server: {error}") from error
            await _run(service, app, settings.server.listen, clock)
    finally:
        store.close()


@asynccontextmanager
async def _world(settings: Settings, store: Store, clock: SystemClock) -> AsyncIterator[tuple[Client, Ports]]:
    async with AsyncExitStack() as stack:
        client, forge = await stack.enter_async_context(open_gitlab(settings, store, now=clock.now))
        registries = await stack.enter_async_context(registry_client(settings, forge))
        hooks = None
        if settings.server.url:
            wanted, fingerprint = hook_settings(settings)
            keeper = HookKeeper(forge, wanted)
            hooks = HookRounds(keeper, store, clock, fingerprint, settings.gitlab.groups)
        else:
            _log.warning("server.url is not set: no webhooks are installed, changes are found by reconcile")
        images = TagLooks(
            RegistryImages(registries, settings.policy.parsed_platforms(), store),
            history_file(settings, os.environ),
            lambda: forge.registry_host,
            clock.now,
        )
        yield (
            client,
            Ports(forge=forge, images=images, store=store, clock=clock, hooks=hooks, bots=GitLabBots(client)),
        )


async def _sync(settings: Settings) -> Synced:
    async with open_gitlab(settings, NoCache(), is_patient=False) as (_, forge):
        scan = await forge.scan()
        if not scan.projects:
            # Without a memory nobody can tell whether they left: their webhooks are not removed for that.
            raise RefusedError(none_left(settings.gitlab))
        report = HookReport()
        if settings.server.url:
            projects = {project.project_id: project.path for project in scan.projects}
            others = set(await forge.maintained_projects()) - projects.keys()
            keeper = HookKeeper(forge, hook_settings(settings)[0])
            report = await keep_all(keeper, settings.gitlab.groups, projects, others)
        return Synced(projects=len(scan.projects), dependencies=len(scan.dependencies), hooks=report)


# --- running --------------------------------------------------------------------------------------------


class _Server(uvicorn.Server):
    """A server that leaves signals to the program: it would end it before the lease is given back."""

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        yield

    def stop(self) -> None:
        """End, after what is being answered."""
        self.should_exit = True


async def _run(service: Service, app: Starlette, listen: str, clock: SystemClock) -> None:
    """Run the loop and the web server until a signal, or until one of them fails."""
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        lifespan="off",
        timeout_graceful_shutdown=_STOP_SECONDS_MAX,
    )
    server = _Server(config)
    listening = _listen(listen)
    _log.info("ready", listen=listen)
    notify("READY=1")
    loop = asyncio.create_task(service.run())
    watchdog = asyncio.create_task(_keep_watchdog(service, clock))
    web = asyncio.create_task(server.serve(sockets=[listening]))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, server.stop)
    # The server ends at a signal, the loop only by failing.
    await asyncio.wait({loop, web}, return_when=asyncio.FIRST_COMPLETED)
    notify("STOPPING=1")
    server.stop()
    watchdog.cancel()
    await web
    is_failed = loop.done()
    loop.cancel()
    with suppress(asyncio.CancelledError):
        await loop
    if not is_failed:
        await service.release()


def _listen(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    try:
        return socket.create_server(
            (host.strip("[]"), int(port)),
            family=socket.AF_INET6 if ":" in host else socket.AF_INET,
            backlog=_BACKLOG_CONNECTIONS,
        )
    except OSError as error:
        raise ConfigError(
            f"server.listen: {address} cannot be listened on: {error.strerror}; name an address "
            "of this machine and a port that no other program has"
        ) from error


async def _keep_watchdog(service: Service, clock: SystemClock) -> None:
    """Tell systemd that the loop turns, as long as it does; else systemd starts the service again."""
    every = watchdog_seconds()
    while every is not None:
        await asyncio.sleep(every / 2)
        if clock.now() - service.turned_at < TURN_SECONDS_MAX:
            notify("WATCHDOG=1")


class _View:
    """The service as the web app wants to see it."""

    def __init__(self, service: Service, client: Client) -> None:
        self._service = service
        self._client = client

    @property
    def chain(self) -> Chain | None:
        return self._service.chain

    async def known(self) -> Known | None:
        return await self._service.known()

    @property
    def turned_at(self) -> float:
        return self._service.turned_at

    @property
    def gitlab_down_since(self) -> float | None:
        return self._client.down_since

    @property
    def gitlab_trouble(self) -> str:
        # Another replica asks with a token of its own.
        acts = self._service.chain is not None
        return self._service.gitlab_trouble or (self._client.token_trouble if acts else "")

    def wake(self) -> None:
        self._service.wake()

    def measures(self) -> Iterable[Measure]:
        yield Measure(
            name="gitlab_requests_total",
            help="Requests sent to GitLab.",
            value=self._client.requests_sent,
            kind="counter",
        )
        if self._client.requests_left is not None:
            yield Measure(
                name="gitlab_requests_remaining",
                help="Requests that GitLab allows still in this period.",
                value=self._client.requests_left,
            )
        yield Measure(
            name="changes_without_hook_total",
            help="Ended pipelines that reconcile found and no webhook announced in time.",
            value=self._service.unannounced,
            kind="counter",
        )
