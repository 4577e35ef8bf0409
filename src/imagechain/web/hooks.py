"""`POST /hooks/gitlab` and `/hooks/gitlab/groups/PATH`: take a hint, and answer once it is stored.

The order of the checks is the safety: size, then the project's id, then the secret of that project (or of the
group in the address) over the raw bytes, and only then is anything kept; and what is kept is ids. Bodies and
secrets are never logged. Whether a project lies in the group is known, and checked, where hints are followed.

A storm of hooks costs a bounded number of hints (`bursts`), and loses nothing: the last of them says that the
project is to be looked at when it is over. What is not verified counts for nothing, so it can hide nothing.
"""

import uuid
from collections.abc import Callable

import msgspec
import structlog
from prometheus_client import CollectorRegistry, Counter, Histogram
from starlette.requests import Request
from starlette.responses import Response

from imagechain.gitlab.hook_secrets import HookOwner, HookSecrets, Signature
from imagechain.store import Hint, StoreError
from imagechain.web.answers import error_answer, json_answer
from imagechain.web.body import BodyError, BodyReader
from imagechain.web.bursts import Burst, Bursts
from imagechain.web.payload import PayloadError, read_payload
from imagechain.web.ports import Service, Store

HOOK_BYTES_MAX = 5 * 1024 * 1024
#: GitLab's are UUIDs.
DELIVERY_ID_CHARACTERS_MAX = 255

_log = structlog.get_logger(__name__)


class HookIntake:
    """Answers the deliveries of GitLab's webhooks."""

    def __init__(
        self,
        store: Store,
        service: Service,
        secrets: HookSecrets,
        metrics: CollectorRegistry,
        *,
        now: Callable[[], float],
        machine_now: Callable[[], float],
    ) -> None:
        self._store = store
        self._service = service
        self._secrets = secrets
        self._now = now
        self._machine_now = machine_now
        self._bodies = BodyReader()
        self._bursts: Bursts[tuple[str, int]] = Bursts()
        self._answers = Counter(
            "imagechain_hooks",
            "Deliveries of webhooks, by the status of the answer.",
            ["status"],
            registry=metrics,
        )
        self._folds = Counter(
            "imagechain_hooks_folded",
            "Deliveries that came so fast that one hint stands for all of their project.",
            registry=metrics,
        )
        self._seconds = Histogram(
            "imagechain_hook_seconds", "From a delivery's arrival to its answer.", registry=metrics
        )

    async def answer(self, request: Request) -> Response:
        """Answer one delivery."""
        with self._seconds.time():
            answer = await self._answer(request)
        self._answers.labels(str(answer.status_code)).inc()
        return answer

    async def _answer(self, request: Request) -> Response:
        try:
            body = await self._bodies.read(request, HOOK_BYTES_MAX)
            found = read_payload(body)
        except BodyError as error:
            return error_answer(error.status, str(error))
        except PayloadError as error:
            return error_answer(400, str(error))
        group = str(request.path_params.get("group", ""))
        owner = group or found.project_id
        if not self._is_from_gitlab(request, owner, body):
            return error_answer(
                401,
                f"neither a signature nor a token of {owner} is right: "
                "`imagechain sync` sets them in GitLab, and this machine's clock must be right",
            )
        delivery = (
            request.headers.get("webhook-id") or request.headers.get("idempotency-key") or uuid.uuid4().hex
        )
        if len(delivery) > DELIVERY_ID_CHARACTERS_MAX:
            return error_answer(400, f"webhook-id has more than {DELIVERY_ID_CHARACTERS_MAX} characters")
        hint = msgspec.structs.replace(found.hint, group=group)
        burst = self._bursts.count((group, found.project_id), hint.kind, self._now())
        try:
            if burst is not None:
                await self._fold(burst, hint)
                return json_answer({"folded": True}, 202)
            # By owner: who has the secret of one must not be able to hide deliveries of another.
            is_new = await self._store.add_hint(hint, f"{owner}:{delivery}", self._now())
        except StoreError as error:
            _log.warning("hook not stored", project_id=found.project_id, error=str(error))
            return error_answer(503, "the hint could not be stored")
        if is_new:
            self._service.wake()
        return json_answer({"new": is_new}, 202)

    async def _fold(self, burst: Burst, hint: Hint) -> None:
        """Store the one hint of a burst, or wait until it is stored."""
        async with burst.turn:
            if not burst.is_stored:
                folded = Hint(kind="burst", project_id=hint.project_id, group=hint.group)
                await self._store.add_hint(folded, f"burst:{uuid.uuid4().hex}", self._now())
                burst.is_stored = True
                _log.warning("many hooks at once", project_id=hint.project_id, group=hint.group)
        self._folds.inc()

    def _is_from_gitlab(self, request: Request, owner: HookOwner, body: bytes) -> bool:
        """Check the signature if there is one, else the older token (contract of GitLab, section 1.1)."""
        headers = dict(request.scope["headers"])
        signatures = headers.get(b"webhook-signature")
        if signatures is not None:
            signature = Signature(
                headers.get(b"webhook-id", b""), headers.get(b"webhook-timestamp", b""), signatures
            )
            return self._secrets.has_signed(owner, signature, body, self._machine_now())
        return self._secrets.has_token(owner, headers.get(b"x-gitlab-token", b""))
