"""Tells the service what runs here. A service that cannot be told stops nothing: the next run tells it."""

from collections.abc import Mapping

import httpx2
import msgspec

from imagechain.config import ConfigError, HostSettings, read_secret, secret_path
from imagechain.hosts.report import CONTAINERS_MAX, REPORT_BYTES_MAX, HostReport, ReportedContainer

_SECONDS_MAX = 30.0
_ANSWER_CHARACTERS_MAX = 300


async def send_report(
    settings: HostSettings,
    containers: tuple[ReportedContainer, ...],
    environ: Mapping[str, str],
    transport: httpx2.AsyncBaseTransport | None = None,
) -> str:
    """Tell the service that the settings name what runs here.

    Returns:
        What went wrong, in words for people; empty: it was told.
    """
    body = msgspec.json.encode(HostReport(containers=containers))
    if len(containers) > CONTAINERS_MAX or len(body) > REPORT_BYTES_MAX:
        return (
            f"the service was not told: a report holds {CONTAINERS_MAX} containers and {REPORT_BYTES_MAX} "
            f"bytes, and this host has {len(containers)} and {len(body)}; give some users settings and a "
            "token of their own"
        )
    url = f"{settings.report_to.rstrip('/')}/api/v1/hosts"
    try:
        token = read_secret(secret_path(settings.report_token_file, environ))
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        async with httpx2.AsyncClient(timeout=_SECONDS_MAX, transport=transport) as client:
            answer = await client.post(url, content=body, headers=headers)
    except ConfigError as error:
        return f"the service was not told: {error}"
    except (httpx2.HTTPError, httpx2.InvalidURL) as error:
        why = str(error) or type(error).__name__
        return f"the service was not told: {url}: {why}; the next run tries it again"
    if answer.is_success:
        return ""
    return f"the service was not told: {url} answered {answer.status_code}{_why(answer.content)}"


class _Error(msgspec.Struct, frozen=True):
    error: str


def _why(body: bytes) -> str:
    """Give the service's own words; none of a proxy's."""
    try:
        why = msgspec.json.decode(body, type=_Error).error
    except msgspec.DecodeError:
        return ""
    return ": " + "".join(filter(str.isprintable, why))[:_ANSWER_CHARACTERS_MAX]
