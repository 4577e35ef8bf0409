"""`imagechain doctor` for a service: its settings, its store, and how it is; `doctor_gitlab` has the rest.

Nothing is changed, and every check stands for itself: the service may be down, and so may be GitLab.
"""

import logging
import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2

from imagechain.cli.doctor_gitlab import examine_gitlab
from imagechain.cli.errors import UnavailableError
from imagechain.cli.finding import Finding
from imagechain.cli.log import log_to_stderr
from imagechain.cli.remote import RemoteService, find_service, is_here
from imagechain.cli.settings import read_service_settings
from imagechain.cli.wiring import hook_settings, named_secret
from imagechain.config import ConfigError, Settings
from imagechain.gitlab.errors import GitLabError
from imagechain.service.loop import TURN_SECONDS_MAX
from imagechain.store import StoreError, examine_store, sqlite_caution, sqlite_path

_GIB = 1024**3
#: Below this, the store may soon refuse webhooks.
_FREE_GIB_MIN = 1
#: Hints that wait; more of them, and the loop does not keep up.
_WAITING_HINTS_MAX = 1_000
_ANSWER_SECONDS_MAX = 15.0
_SAMPLE = re.compile(r"^imagechain_(\w+) (\S+)$", re.MULTILINE)


async def examine_service(config: Path | None, server: str | None) -> list[Finding]:
    """Check a service.

    Args:
        config: its settings; without them, only what the service tells is checked.
        server: its address; by default that of the settings.
    """
    # What is tried again on the way is no finding: what came of it is.
    log_to_stderr(logging.ERROR)
    if config is None:
        return list(_running(find_service(server, None)))
    try:
        settings = read_service_settings(config)
    except ConfigError as error:
        return [Finding("settings", "error", str(error))]
    findings = list(_settings(config, settings))
    try:
        findings += [finding async for finding in examine_gitlab(settings)]
    except (ConfigError, GitLabError) as error:
        findings.append(Finding("gitlab", "error", str(error)))
    findings += _store(settings)
    findings += _address(settings)
    findings += _running(find_service(server, config))
    return findings


def _settings(config: Path, settings: Settings) -> Iterator[Finding]:
    wrong = []
    if not settings.gitlab.groups:
        wrong.append(Finding("settings", "error", "gitlab.groups is empty", "name the groups to look after"))
    try:
        named_secret(settings.server.api_token_file, "server.api_token_file")
        hook_settings(settings)
    except ConfigError as error:
        wrong.append(Finding("settings", "error", str(error)))
    yield from wrong or [Finding("settings", "ok", str(config))]


def _store(settings: Settings) -> Iterator[Finding]:
    try:
        state = examine_store(settings.store.url)
    except StoreError as error:
        yield Finding("store", "error", str(error))
        return
    if state.revision is None:
        yield Finding("store", "ok", f"{state.name} is new: it is filled at the first start")
    elif state.revision == state.newest:
        yield Finding("store", "ok", f"{state.name}, version {state.revision}")
    else:
        yield Finding(
            "store",
            "warning",
            f"{state.name} has version {state.revision}, and this imagechain makes {state.newest}",
            "the next start brings it up to that; if it is newer already, start the imagechain that made it",
        )
    if state.is_writable is False:
        yield Finding(
            "store",
            "warning",
            f"this user may not write {state.name}",
            "run doctor as the service's user, or give it the file",
        )
    if state.free_bytes is not None:
        gib = state.free_bytes / _GIB
        if gib < _FREE_GIB_MIN:
            yield Finding("disk", "error", f"{gib:.1f} GiB are free for the store", "make room")
        else:
            yield Finding("disk", "ok", f"{gib:.0f} GiB are free for the store")
    if sqlite_path(settings.store.url) is not None and (caution := sqlite_caution()):
        yield Finding("sqlite", "warning", caution)


def _address(settings: Settings) -> Iterator[Finding]:
    """Look whether webhooks would find their way, as far as that can be seen from here."""
    url = settings.server.url.rstrip("/")
    if not url:
        yield Finding(
            "server.url",
            "warning",
            "not set, so no webhooks are installed",
            "set it to the address by which GitLab reaches the service",
        )
        return
    try:
        answer = httpx2.get(f"{url}/healthz", timeout=_ANSWER_SECONDS_MAX, trust_env=not is_here(url))
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        yield Finding(
            "server.url",
            "warning",
            f"{url} does not answer here: {error}",
            "GitLab has to reach it: look at the name, the proxy before the service, and its certificate",
        )
        return
    if answer.headers.get("content-type", "").startswith("application/json"):
        yield Finding("server.url", "ok", f"{url} leads to the service")
    else:
        yield Finding(
            "server.url",
            "error",
            f"{url} answers (HTTP {answer.status_code}), but not as the service does",
            "let the proxy pass everything below it to server.listen",
        )


def _running(service: RemoteService) -> Iterator[Finding]:
    try:
        service.get("/healthz")
        numbers = {name: float(value) for name, value in _SAMPLE.findall(service.get("/metrics").decode())}
    except UnavailableError as error:
        yield Finding("service", "error", str(error))
        return
    if "loop_turned_at" not in numbers:
        yield Finding(
            "service",
            "error",
            f"what answers at {service.url} is no imagechain service",
            "check --server or server.url, and the proxy before the service",
        )
        return
    silent = time.time() - numbers["loop_turned_at"]
    waiting = numbers.get("inbox_hints", 0.0)
    if silent > TURN_SECONDS_MAX or waiting > _WAITING_HINTS_MAX:
        yield Finding(
            "service",
            "warning",
            f"its loop turned {silent:.0f} s ago, and {waiting:.0f} hints wait",
            "look at its log (journalctl -u imagechain)",
        )
    else:
        yield Finding("service", "ok", f"{service.url} answers; {waiting:.0f} hints wait")
    if numbers.get("gitlab_up") == 0.0:
        yield Finding(
            "service",
            "error",
            "it says that GitLab does not answer it, or refuses what it asks",
            f"`imagechain status --server {service.url}` tells why",
        )
    unannounced = numbers.get("changes_without_hook_total", 0.0)
    if unannounced:
        yield Finding(
            "webhooks",
            "warning",
            f"since its start, reconcile found {unannounced:.0f} ended pipelines that no webhook announced",
            "look at the recent events of the webhooks in GitLab (Settings > Webhooks > Edit)",
        )
