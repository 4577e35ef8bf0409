"""Who is told what was changed, or could not be: a webhook, mail, the journal of systemd.

Nothing is told of a run that changed nothing. A message that cannot be sent stops nothing.
"""

import asyncio
import socket
from collections.abc import Mapping, Sequence
from email.message import EmailMessage
from pathlib import Path

import httpx2
import msgspec

from imagechain.config import ConfigError, HostNotify, read_secret, secret_path
from imagechain.hosts.update import Outcome
from imagechain.images.process import ProgramError, run

_SECONDS_MAX = 10.0
#: Where systemd-journald takes entries (its "native protocol").
JOURNAL_SOCKET = Path("/run/systemd/journal/socket")
#: Priorities of syslog.
_NOTICE, _ERROR = 5, 3


class Notifier:
    """Sends what is to be told of one run."""

    def __init__(
        self, settings: HostNotify, environ: Mapping[str, str], *, journal: Path = JOURNAL_SOCKET
    ) -> None:
        self._settings = settings
        self._environ = environ
        self._journal = journal
        self._host = socket.gethostname()

    async def tell(self, user: str, outcomes: Sequence[Outcome]) -> list[str]:
        """Tell of what was changed, and of what failed; return what could not be sent, and why."""
        told = [outcome for outcome in outcomes if outcome.result != "postponed"]
        if not told:
            return []
        problems = await asyncio.gather(self._post(user, told), self._mail(user, told))
        return [problem for problem in (*problems, self._write(user, told)) if problem]

    async def _post(self, user: str, outcomes: Sequence[Outcome]) -> str:
        if not self._settings.webhook_file:
            return ""
        body = {
            "host": self._host,
            "user": user,
            "text": "\n".join(map(_line, outcomes)),
            "outcomes": [
                {"containers": one.containers, "result": one.result, "why": one.why} for one in outcomes
            ],
        }
        try:
            url = read_secret(secret_path(self._settings.webhook_file, self._environ))
            async with httpx2.AsyncClient(timeout=_SECONDS_MAX) as client:
                reply = await client.post(
                    url, content=msgspec.json.encode(body), headers={"Content-Type": "application/json"}
                )
        except ConfigError as error:
            return f"the webhook was not told: {error}"
        except (httpx2.HTTPError, httpx2.InvalidURL) as error:
            # Not the error's own words: they may hold the URL, which is a secret.
            return f"the webhook was not told: {type(error).__name__}"
        return "" if reply.is_success else f"the webhook was not told: it answered {reply.status_code}"

    async def _mail(self, user: str, outcomes: Sequence[Outcome]) -> str:
        if not self._settings.mail:
            return ""
        message = EmailMessage()
        failed = sum(outcome.result != "updated" for outcome in outcomes)
        message["Subject"] = f"imagechain on {self._host}: {len(outcomes) - failed} updated, {failed} not"
        message["To"] = ", ".join(self._settings.mail)
        message.set_content(f"Containers of {user} on {self._host}:\n\n" + "\n".join(map(_line, outcomes)))
        try:
            (
                await run(["sendmail", "-t", "-i"], timeout_seconds=_SECONDS_MAX, text=message.as_bytes())
            ).check()
        except ProgramError as error:
            return f"no mail was sent: {error}"
        return ""

    def _write(self, user: str, outcomes: Sequence[Outcome]) -> str:
        if not self._settings.journal or not self._journal.exists():
            return ""
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
                journal.connect(str(self._journal))
                for outcome in outcomes:
                    journal.send(_entry(user, outcome))
        except OSError as error:
            return f"the journal was not told: {error.strerror}"
        return ""


def _line(outcome: Outcome) -> str:
    return f"{', '.join(outcome.containers)}: {outcome.result}{': ' if outcome.why else ''}{outcome.why}"


def _entry(user: str, outcome: Outcome) -> bytes:
    """Write an entry of the journal: a field a line; no value may have a line break."""
    fields = {
        "MESSAGE": _line(outcome),
        "PRIORITY": str(_NOTICE if outcome.result == "updated" else _ERROR),
        "SYSLOG_IDENTIFIER": "imagechain",
        "IMAGECHAIN_USER": user,
        "IMAGECHAIN_CONTAINERS": " ".join(outcome.containers),
        "IMAGECHAIN_RESULT": outcome.result,
    }
    return "".join(f"{name}={' '.join(text.split())}\n" for name, text in fields.items()).encode()
