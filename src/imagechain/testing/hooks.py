"""When webhooks are called, how, and what becomes of it: GitLab's rules of delivery, with faults.

Rules: GitLab's pages "Webhooks" and "Webhook administration", its `WebHookService` and `AutoDisabling`. The
traps that receivers must survive are on purpose: a call that fails is never repeated, calls overtake each
other, a pipeline's body tells the status of when it is sent, and a disabled hook loses its events.
"""

import base64
import hashlib
import hmac
import json
import re
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from fnmatch import fnmatchcase

import httpx2
import msgspec

from imagechain.testing import payloads
from imagechain.testing.state import State
from imagechain.testing.values import NO_COMMIT, Hook, HookEvent, Json, Project, RefChange

#: Consecutive failures after which a hook is disabled for a while, and for good.
FAILURES_MAX = 3
FAILURES_FOR_GOOD = 40
BACKOFF_SECONDS_MIN = 60.0
BACKOFF_SECONDS_MAX = 86_400.0
#: Hooks that may run because of one another.
RECURSION_HOOKS_MAX = 100
#: Events whose hooks are remembered; GitLab forgets them after 30 minutes.
EVENT_UUIDS_MAX = 10_000
RESPONSE_BODY_BYTES_KEPT = 8 * 1024
RESPONSE_HEADERS_KEPT = 50
#: Calls of a hook that its log keeps.
LOG_EVENTS_KEPT = 1000
#: Lost events that are remembered.
LOST_KEPT = 10_000
#: Calls of one `deliver`, so that hooks which cause each other end.
DELIVER_CALLS_MAX = 100_000

#: Trigger of an event -> the setting of a hook that asks for it.
EVENT_SETTINGS = {
    "push_hooks": "push_events",
    "tag_push_hooks": "tag_push_events",
    "pipeline_hooks": "pipeline_events",
    "job_hooks": "job_events",
    "merge_request_hooks": "merge_requests_events",
    "note_hooks": "note_events",
    "confidential_note_hooks": "confidential_note_events",
    "deployment_hooks": "deployment_events",
    "project_hooks": "project_events",
}
_SYSTEM_TRIGGERS = frozenset({"push_hooks", "tag_push_hooks", "merge_request_hooks"})
_SIGNING_TOKEN = re.compile(r"whsec_[A-Za-z0-9+/]{43}=")


class Delivery(msgspec.Struct, kw_only=True):
    """A call that is to be made."""

    hook: int
    trigger: str
    build: Callable[[], Json]
    #: Kept when the call is repeated by hand.
    idempotency_key: str
    event_uuid: str
    due_at: float


def valid_signing_token(token: str) -> bool:
    """Tell whether a text has the form of a signing token."""
    return _SIGNING_TOKEN.fullmatch(token) is not None


def sign(signing_token: str, message_id: str, timestamp: str, body: bytes) -> str:
    """Sign a body as the Standard Webhooks specification says."""
    key = base64.b64decode(signing_token.removeprefix("whsec_"))
    message = f"{message_id}.{timestamp}.".encode() + body
    return "v1," + base64.b64encode(hmac.digest(key, message, hashlib.sha256)).decode()


class Hooks:
    """Queues the calls of hooks, and makes them when `deliver` is awaited."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._queue: list[Delivery] = []
        self._ran_under: dict[str, set[int]] = {}
        #: How calls reach the receiver; None: by real sockets.
        self.transport: httpx2.AsyncBaseTransport | None = None
        #: `X-Gitlab-Event-UUID` of the API request that is being carried out.
        self.inherited_uuid: str | None = None
        #: Why events were not sent, in order: `drop`, `disabled`, `rate limit`, `recursion`, `too many refs`.
        self.lost: deque[tuple[str, str]] = deque(maxlen=LOST_KEPT)

    @property
    def waiting(self) -> int:
        """How many calls are queued."""
        return len(self._queue)

    def next_due(self) -> float | None:
        """Tell when the next queued call may be made."""
        return min((delivery.due_at for delivery in self._queue), default=None)

    def alert_status(self, hook: Hook) -> str:
        """Tell whether a hook is called, as the API names it."""
        system = hook.project is None and hook.group is None
        if system or not self._state.settings.auto_disabling_web_hooks:
            return "executable"
        if hook.recent_failures >= FAILURES_FOR_GOOD:
            return "disabled"
        waits = hook.disabled_until is not None and hook.disabled_until >= self._state.clock()
        return "temporarily_disabled" if hook.recent_failures > FAILURES_MAX and waits else "executable"

    # --- queueing

    def emit(
        self, project: Project, trigger: str, build: Callable[[], Json], *, branch: str | None = None
    ) -> None:
        """Queue an event for the project's hooks, those of its groups, and system hooks.

        Only a pipeline's body is built when it is sent; any other is built now.
        """
        state = self._state
        if state.settings.silent_mode:
            return
        hooks = state.project_hooks(project)
        for group in state.ancestors(project.group) if state.settings.enterprise else ():
            hooks += state.group_hooks(group)
        setting = EVENT_SETTINGS[trigger]
        asked = [
            hook for hook in hooks if setting in hook.events and (branch is None or _admits(hook, branch))
        ]
        if trigger in _SYSTEM_TRIGGERS:
            asked += [hook for hook in state.system_hooks() if setting in hook.events]
        if not asked:
            return
        # Only a pipeline's body waits for its delivery.
        built = build if trigger == "pipeline_hooks" else _already(build())
        top_group = project.full_path.partition("/")[0]
        for hook in asked:
            self._enqueue(hook, trigger, built, top_group)

    def emit_project(self, project: Project, event: str) -> None:
        """Queue the making or the end of a project (`project_create`, `project_destroy`) for its groups."""
        self.emit(project, "project_hooks", lambda: payloads.project_event(project, event))

    def too_many_refs(self, project: Project) -> None:
        """Note a push that fires no hook because it changed too many branches or tags."""
        self.lost.append((project.full_path, "too many refs"))

    def _enqueue(self, hook: Hook, trigger: str, build: Callable[[], Json], top_group: str) -> None:
        state = self._state
        reason = None
        event_uuid = self.inherited_uuid or state.new_uuid()
        ran = self._ran_under.setdefault(event_uuid, set()) if self.inherited_uuid else set()
        if self.alert_status(hook) != "executable":
            reason = "disabled"
        elif state.rates.take(("hooks", top_group), state.settings.hook_calls_per_minute_max) is None:
            reason = "rate limit"
        elif hook.id in ran or len(ran) >= RECURSION_HOOKS_MAX:
            reason = "recursion"
        if reason is not None:
            self.lost.append((trigger, reason))
            return
        delivery = Delivery(
            hook=hook.id,
            trigger=trigger,
            build=build,
            idempotency_key=state.new_uuid(),
            event_uuid=event_uuid,
            due_at=state.clock(),
        )
        self._enqueue_with_faults(delivery)

    def _enqueue_with_faults(self, delivery: Delivery) -> None:
        faults, random = self._state.faults, self._state.fault_random
        # All numbers are drawn always, so that runs with other probabilities stay comparable.
        drop, twice, late, overtake, share = (random.random() for _ in range(5))
        if drop < faults.hook_drop:
            self.lost.append((delivery.trigger, "drop"))
            return
        if late < faults.hook_delay:
            delivery.due_at += share * faults.hook_delay_seconds_max
        self._queue.append(delivery)
        if overtake < faults.hook_reorder and len(self._queue) > 1:
            self._queue[-1], self._queue[-2] = self._queue[-2], self._queue[-1]
        if twice < faults.hook_duplicate:
            self._queue.append(msgspec.structs.replace(delivery))

    # --- delivering

    async def deliver(self) -> list[HookEvent]:
        """Make all calls that are due, those that they cause included; list what became of them."""
        events: list[HookEvent] = []
        if not self._due():
            return events
        async with self._client() as client:
            while len(events) < DELIVER_CALLS_MAX and (due := self._due()):
                taken = {id(delivery) for delivery in due}
                self._queue = [delivery for delivery in self._queue if id(delivery) not in taken]
                for delivery in due:
                    hook = self._state.hooks.get(delivery.hook)
                    if hook is None or self.alert_status(hook) != "executable":
                        self.lost.append((delivery.trigger, "disabled"))
                    else:
                        events.append(await self._call(client, hook, delivery))
        return events

    async def test(self, hook: Hook, trigger: str, payload: Json) -> HookEvent:
        """Call a hook now, even a disabled one; success enables it again."""
        delivery = Delivery(
            hook=hook.id,
            trigger=trigger,
            build=lambda: payload,
            idempotency_key=self._state.new_uuid(),
            event_uuid=self._state.new_uuid(),
            due_at=self._state.clock(),
        )
        async with self._client() as client:
            return await self._call(client, hook, delivery)

    async def resend(self, hook: Hook, event: HookEvent) -> HookEvent:
        """Repeat a call by hand, with the same idempotency key."""
        delivery = Delivery(
            hook=hook.id,
            trigger=event.trigger,
            build=lambda: event.request_data,
            idempotency_key=event.request_headers["Idempotency-Key"],
            event_uuid=self._state.new_uuid(),
            due_at=self._state.clock(),
        )
        async with self._client() as client:
            return await self._call(client, hook, delivery)

    def _due(self) -> list[Delivery]:
        now = self._state.clock()
        return [delivery for delivery in self._queue if delivery.due_at <= now]

    def _client(self) -> httpx2.AsyncClient:
        return httpx2.AsyncClient(
            transport=self.transport, timeout=self._state.settings.hook_timeout_seconds, trust_env=False
        )

    def _headers(self, hook: Hook, delivery: Delivery, body: bytes) -> dict[str, str]:
        settings = self._state.settings
        system = hook.project is None and hook.group is None
        headers = dict(hook.custom_headers) | {
            "Content-Type": "application/json",
            "User-Agent": f"GitLab/{settings.version}",
            "Idempotency-Key": delivery.idempotency_key,
            "X-Gitlab-Event": "System Hook" if system else event_header(delivery.trigger),
            "X-Gitlab-Webhook-UUID": self._state.new_uuid(),
            "X-Gitlab-Instance": settings.url,
            "X-Gitlab-Event-UUID": delivery.event_uuid,
        }
        if hook.token:
            headers["X-Gitlab-Token"] = hook.token
        if settings.signs_hooks:
            timestamp = str(int(self._state.clock()))
            headers |= {"webhook-id": delivery.idempotency_key, "webhook-timestamp": timestamp}
            if hook.signing_token:
                signature = sign(hook.signing_token, delivery.idempotency_key, timestamp, body)
                headers["webhook-signature"] = signature
        return headers

    async def _call(self, client: httpx2.AsyncClient, hook: Hook, delivery: Delivery) -> HookEvent:
        self._ran_under.setdefault(delivery.event_uuid, set()).add(hook.id)
        if len(self._ran_under) > EVENT_UUIDS_MAX:
            del self._ran_under[next(iter(self._ran_under))]
        data = delivery.build()
        body = json.dumps(data, separators=(",", ":")).encode()
        headers = self._headers(hook, delivery, body)
        url = hook.url
        for key, value in hook.url_variables.items():
            url = url.replace(f"{{{key}}}", value)
        status, text, response_headers = "internal error", "", {}
        started = time.monotonic()
        if len(body) <= self._state.settings.hook_body_bytes_max:
            try:
                response = await client.post(url, content=body, headers=headers)
            except httpx2.HTTPError as error:
                text = str(error) or type(error).__name__
            else:
                status = str(response.status_code)
                text = response.content[:RESPONSE_BODY_BYTES_KEPT].decode(errors="replace")
                response_headers = dict(list(response.headers.items())[:RESPONSE_HEADERS_KEPT])
        self._note_outcome(hook, ok=status[0] in "23")
        event = HookEvent(
            id=self._state.next_id("hook event"),
            hook=hook.id,
            at=self._state.clock(),
            url=hook.url,
            trigger=delivery.trigger,
            request_headers=_redact(headers),
            request_data=data,
            response_headers=response_headers,
            response_body=text,
            response_status=status,
            seconds=time.monotonic() - started,
        )
        hook.log.append(event)
        del hook.log[:-LOG_EVENTS_KEPT]
        return event

    def _note_outcome(self, hook: Hook, *, ok: bool) -> None:
        """Count failures in a row; any success forgets them."""
        if ok:
            hook.recent_failures, hook.disabled_until = 0, None
        elif self.alert_status(hook) == "executable":
            before = hook.recent_failures
            hook.recent_failures = min(before + 1, FAILURES_FOR_GOOD)
            if hook.recent_failures > FAILURES_MAX:
                backoff = BACKOFF_SECONDS_MIN * 2.0 ** (before - FAILURES_MAX)
                backoff = min(max(backoff, BACKOFF_SECONDS_MIN), BACKOFF_SECONDS_MAX)
                hook.disabled_until = self._state.clock() + backoff

    def sample(self, project: Project, setting: str) -> tuple[str, Json] | None:
        """Make the trigger and the body of a hook test from the project's data; None: it has none."""
        state = self._state
        user = next(iter(state.users.values()))
        head = project.head
        if setting in {"push_events", "tag_push_events"} and head is not None:
            before = head.parents[0] if head.parents else NO_COMMIT
            ref = f"refs/heads/{project.default_branch}" if setting == "push_events" else "refs/tags/test"
            change = RefChange(ref=ref, before=before, after=head.sha, commits=(head,))
            body = payloads.push(state, project, user, change)
            return ("push_hooks" if setting == "push_events" else "tag_push_hooks"), body
        if project.pipelines and setting in {"pipeline_events", "job_events"}:
            pipeline = project.pipelines[max(project.pipelines)]
            if setting == "pipeline_events":
                return "pipeline_hooks", payloads.pipeline(state, pipeline)
            if pipeline.jobs:
                return "job_hooks", payloads.job(state, pipeline, pipeline.jobs[0])
        for merge_request in project.merge_requests.values():
            if setting == "merge_requests_events":
                body = payloads.merge_request(state, project, merge_request, user, "open")
                return "merge_request_hooks", body
            if setting == "note_events" and merge_request.notes:
                note = next(iter(merge_request.notes.values()))
                return "note_hooks", payloads.note(state, project, merge_request, note, "create")
        return None


def _already(body: Json) -> Callable[[], Json]:
    return lambda: body


def event_header(trigger: str) -> str:
    """Write a trigger as the header names it: `push_hooks` -> `Push Hook`."""
    return trigger.removesuffix("s").replace("_", " ").title()


def _redact(headers: Mapping[str, str]) -> dict[str, str]:
    secret = {"X-Gitlab-Token", "webhook-signature"}
    return {name: "[REDACTED]" if name in secret else value for name, value in headers.items()}


def _admits(hook: Hook, branch: str) -> bool:
    """Tell whether a hook's branch filter lets a push through."""
    pattern = hook.push_events_branch_filter
    if not pattern or hook.branch_filter_strategy == "all_branches":
        return True
    if hook.branch_filter_strategy == "regex":
        return re.search(pattern, branch) is not None
    return fnmatchcase(branch, pattern)


def successful(events: Iterable[HookEvent]) -> list[HookEvent]:
    """Pick the calls that GitLab counts as successful: 2xx and 3xx."""
    return [event for event in events if event.response_status[0] in "23"]
