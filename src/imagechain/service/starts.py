"""Starting builds, each exactly once, whatever crashes.

    decide ──► intent written ──► look for the pipeline ──► start it ──► what GitLab said is observed

GitLab has no idempotency key. So before a pipeline is started, those that are newer than the newest known one
are looked at: after a crash the intent's own is among them, and a push that nobody spoke of counts as the
build too. After an answer that was lost, GitLab may be at work still: nothing is started for that project,
nor for what is built from it, until it must have ended. Each intent has a task of its own: a project on which
GitLab hangs or fails holds up no other.
"""

import asyncio
import secrets
from collections.abc import Mapping, Sequence

import msgspec
import structlog

from imagechain.chain import (
    BuildFinished,
    BuildStarted,
    FailBuild,
    GivenUp,
    GiveUp,
    Observation,
    StartBuild,
    decide,
)
from imagechain.config.told import CAUSE, INPUTS, INTENT
from imagechain.service.follow import Follower
from imagechain.service.knowledge import Knowledge
from imagechain.service.ports import (
    Clock,
    NotNowError,
    Pipeline,
    Pipelines,
    RefusedError,
    RetryableError,
    TrackedProject,
)
from imagechain.service.reading import is_build, is_news, is_retried, largest_pipeline, observe_start
from imagechain.store.values import Intent

#: GitLab gives up a request after 60 s; later than this a lost one is certain not to start a pipeline.
UNSURE_SECONDS = 90.0
#: How long one request to start a pipeline may last; the lease must hold longer.
REQUEST_SECONDS_MAX = 10.0
#: How long a look may last before a start: GitLab gives up a request after 60 s. Others wait for their turn.
LOOK_SECONDS_MAX = 60.0
#: How long GitLab is left alone after a failure, which doubles with each that follows.
_PAUSE_SECONDS_MIN = 5.0
_PAUSE_SECONDS_MAX = 300.0
#: How often is looked for a pipeline whose start got no answer.
_LOOK_SECONDS = 15.0
#: When to try again what would have outlasted the lease: it is renewed meanwhile.
_LEASE_SECONDS = 1.0
#: What a pipeline is told: why it runs, by which decision, and what from.
TOLD = (CAUSE, INTENT, INPUTS)
#: Bytes of a variable; GitLab itself refuses what the runner could not put into an environment.
_INPUTS_BYTES_MAX = 32_768

_log = structlog.get_logger(__name__)


class _PutOff(msgspec.Struct, frozen=True):
    """A project is not started for a while: until when, and how long that is."""

    until: float
    seconds: float


class Starter:
    """Decides, and carries out what was decided."""

    def __init__(
        self, knowledge: Knowledge, follower: Follower, forge: Pipelines, lease_clock: Clock, clock: Clock
    ) -> None:
        """Take up the intents that were left open: each may have been carried out.

        Args:
            knowledge: what is known.
            follower: looks at pipelines that are found.
            forge: where they are.
            lease_clock: the clock that the lease goes by.
            clock: the clock that all else goes by.
        """
        self._lease_clock = lease_clock
        self._knowledge = knowledge
        self._follower = follower
        self._forge = forge
        self._clock = clock
        # An intent of an earlier life may have been carried out just before that ended.
        knowledge.sent_at.update((intent.id, clock.now()) for intent in knowledge.intents.values())
        #: The intents that a task sees through, by id.
        self._under_way: set[str] = set()
        #: GitLab is left alone until then: it said so, or it is down.
        self._paused_until = 0.0
        self._pause_seconds = _PAUSE_SECONDS_MIN
        #: Projects on which GitLab failed, by source.
        self._put_off: dict[str, _PutOff] = {}
        #: When to decide again if nothing is observed before; None: only an observation changes anything.
        self.wake_at: float | None = None

    async def turn(self, tasks: asyncio.TaskGroup) -> None:
        """Decide once, and have what was decided seen through by tasks."""
        # While nothing is to be decided, the end of that is what wakes us.
        self.wake_at = None
        await self._knowledge.decide(self._decide)
        for intent in self._knowledge.intents.values():
            if intent.id not in self._under_way:
                self._under_way.add(intent.id)
                tasks.create_task(self._see_through(intent.id))

    # --- decide -----------------------------------------------------------------------------------------

    def _decide(self) -> tuple[Sequence[Observation], Sequence[Intent]]:
        now = self._clock.now()
        chain, intents = self._knowledge.chain, self._knowledge.intents
        held = self._held(now)
        # A build that was seen before the answer counts already.
        starting = sum(not self._is_running(source) for source in intents)
        decision = decide(chain, now, held=held, starting=starting)
        is_paused = now < self._paused_until
        self.wake_at = self._wake_at(decision.wake_at, now)
        observations: list[Observation] = []
        opened: list[Intent] = []
        for action in decision.actions:
            match action:
                case StartBuild():
                    if not is_paused:
                        opened.append(self._intent(action, now))
                case FailBuild(project=project, build=build):
                    message = "it lasts longer than [policy] build_max allows"
                    observations.append(
                        BuildFinished(project=project, build=build, at=now, outcome="failed", message=message)
                    )
                case GiveUp(project=project):
                    observations.append(GivenUp(project=project, at=now))
        return observations, opened

    def _is_running(self, source: str) -> bool:
        chain = self._knowledge.chain
        number = chain.graph.number.get(source)
        return number is not None and bool(chain.facts.states[number].runs)

    def _wake_at(self, decided_at: float | None, now: float) -> float | None:
        ends = [self._paused_until, *(off.until for off in self._put_off.values())]
        times = [at for at in ends if at > now]
        return min(times if decided_at is None else [*times, decided_at], default=None)

    def _held(self, now: float) -> set[str]:
        """Name the projects with an open intent, what is built from them, and those that are put off.

        What is built from them matters where somebody else's build settled the project while the answer to
        ours was lost.
        """
        chain = self._knowledge.chain
        held = set(self._knowledge.intents)
        for source in self._knowledge.intents:
            number = chain.graph.number.get(source)
            if number is not None and chain.facts.states[number].is_settled:
                held |= chain.graph.descendants_of(source)
        return held | {source for source, off in self._put_off.items() if off.until > now}

    def _intent(self, action: StartBuild, now: float) -> Intent:
        name = secrets.token_hex(8)
        return Intent(
            id=name,
            source=action.project,
            at=now,
            inputs=action.inputs,
            cause="; ".join(reason.text for reason in action.reasons),
            cascade=self._cascade(action) or name,
            after_pipeline=largest_pipeline(self._knowledge.chain, action.project),
        )

    def _cascade(self, action: StartBuild) -> str | None:
        """Tell which change a build follows from: that of the first parent which moved."""
        graph, facts = self._knowledge.chain.graph, self._knowledge.chain.facts
        for reason in action.reasons:
            key = graph.input_number.get(reason.input)
            if key is None or graph.publisher[key] < 0:
                continue
            parent = graph.publisher[key]
            name, last = graph.ids[parent], facts.states[parent].last_build
            if facts.is_external(parent):
                return f"{name} {reason.after}"
            if name in self._knowledge.cascades:
                return self._knowledge.cascades[name]
            return f"{name} {last.id}" if last is not None else None
        return None

    # --- act --------------------------------------------------------------------------------------------

    async def _see_through(self, name: str) -> None:
        """Carry out an intent, however often that must be tried, until it is closed."""
        while (intent := self._knowledge.intent(name)) is not None:
            if self._clock.now() >= self._paused_until:
                try:
                    await self._carry_out(intent)
                except NotNowError as error:
                    self._pause(error)
                except RetryableError as error:
                    _log.warning("GitLab does not answer as it should", source=intent.source, why=str(error))
                    # What was asked for may have begun: then the intent stays open until a look tells.
                    if name not in self._knowledge.sent_at:
                        await self._come_to_nothing(intent)
                except RefusedError as error:
                    await self._refuse(intent, str(error))
                else:
                    self._pause_seconds = _PAUSE_SECONDS_MIN
            await self._clock.sleep(self._rest_seconds(name))
        self._under_way.discard(name)

    def _rest_seconds(self, name: str) -> float:
        """Tell when to look at an intent again; 0: it is closed."""
        if self._knowledge.intent(name) is None:
            return 0.0
        now = self._clock.now()
        if now < self._paused_until:
            return self._paused_until - now
        sent_at = self._knowledge.sent_at.get(name)
        if sent_at is None:
            return _LEASE_SECONDS
        unsure_seconds = sent_at + UNSURE_SECONDS - now
        return min(unsure_seconds, _LOOK_SECONDS) if unsure_seconds > 0.0 else _LOOK_SECONDS

    async def _carry_out(self, intent: Intent) -> None:
        project = self._knowledge.tracked.get(intent.source)
        if project is None or project.ref is None:
            # It left; if it comes back at once, its pipeline may still come.
            if not self._is_unsure(intent):
                await self._close(intent)
        elif not await self._is_found(project, intent) and await self._may_start(intent):
            await self._start(project, intent)

    async def _is_found(self, project: TrackedProject, intent: Intent) -> bool:
        """Look whether a build runs already that is newer than those known: this one, or another's."""
        newest = intent.after_pipeline

        def counts(one: Pipeline) -> bool:
            is_new = is_news if one.id > newest else is_retried
            return is_build(one, project) and is_new(self._knowledge.chain, intent.source, one)

        # The newest known one, too: who retries a pipeline in GitLab makes no other.
        found = await self._forge.pipelines_after(project, newest - 1)
        builds = [
            complete
            for one in found
            if counts(one) and counts(complete := await self._follower.complete(one))
        ]
        if not builds:
            return False
        await self._follower.take_in_pipelines([project], builds)
        self._put_off.pop(intent.source, None)
        if not self._is_unsure(intent):
            await self._close(intent)
        return True

    async def _may_start(self, intent: Intent) -> bool:
        """Tell whether the build is wanted still, and whether no earlier request can start it any more."""
        if self._is_unsure(intent):
            return False
        if intent.id in self._knowledge.sent_at:
            await self._come_to_nothing(intent)
            return False
        chain = self._knowledge.chain
        number = chain.graph.number_of(intent.source)
        if not chain.facts.is_startable(number) or chain.facts.is_paused(number):
            # Decided anew, if it is wanted still.
            await self._close(intent)
            return False
        return self._lease_clock.now() + REQUEST_SECONDS_MAX < self._knowledge.lease.expires_at

    def _is_unsure(self, intent: Intent) -> bool:
        """Tell whether a request that got no answer may still start a pipeline."""
        sent_at = self._knowledge.sent_at.get(intent.id)
        return sent_at is not None and self._clock.now() < sent_at + UNSURE_SECONDS

    async def _start(self, project: TrackedProject, intent: Intent) -> None:
        self._knowledge.sent_at[intent.id] = self._clock.now()
        try:
            pipeline = await self._forge.create_pipeline(project, _told(intent, self._follower.digests))
        except NotNowError:
            # Nothing was started by it; to a question, the same answer says nothing of what was asked before.
            await self._close(intent)
            raise
        _log.info("started", source=intent.source, pipeline=pipeline.id, cause=intent.cause)
        start = observe_start(pipeline, project, str(pipeline.id), intent)
        await self._knowledge.take_in([start], closed=[intent.id])
        self._put_off.pop(intent.source, None)

    async def _refuse(self, intent: Intent, why: str) -> None:
        """Report what GitLab refuses as a build that failed, and is not tried again by itself."""
        _log.warning("refused", source=intent.source, why=why)
        now = self._clock.now()
        build = f"refused:{intent.id}"
        await self._knowledge.take_in(
            [
                BuildStarted(
                    project=intent.source,
                    build=build,
                    at=now,
                    inputs=intent.inputs,
                    cause=intent.cause,
                    cascade=intent.cascade,
                ),
                BuildFinished(project=intent.source, build=build, at=now, outcome="cancelled", message=why),
            ],
            closed=[intent.id],
        )

    async def _come_to_nothing(self, intent: Intent) -> None:
        """Close an intent that GitLab failed to carry out; others go first before it is decided again."""
        last = self._put_off.get(intent.source)
        seconds = _PAUSE_SECONDS_MIN if last is None else min(2 * last.seconds, _PAUSE_SECONDS_MAX)
        self._put_off[intent.source] = _PutOff(self._clock.now() + seconds, seconds)
        await self._close(intent)

    async def _close(self, intent: Intent) -> None:
        await self._knowledge.take_in(closed=[intent.id])

    def _pause(self, error: NotNowError) -> None:
        """Leave GitLab alone; of those that it turned away together, the first one says for how long."""
        now = self._clock.now()
        seconds = error.retry_after_seconds or 0.0
        if now >= self._paused_until:
            seconds = max(seconds, self._pause_seconds)
            self._pause_seconds = min(2 * self._pause_seconds, _PAUSE_SECONDS_MAX)
            _log.warning("GitLab does not answer as it should", why=str(error), seconds=round(seconds))
        self._paused_until = max(self._paused_until, now + min(seconds, _PAUSE_SECONDS_MAX))


class _ToldInput(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a pipeline is told of one input; the shape of the label `dev.imagechain.inputs`."""

    content: str
    #: Empty: it is no image, or has moved since it was decided.
    digest: str = ""


def _told(intent: Intent, digests: Mapping[str, tuple[str, str]]) -> Mapping[str, str]:
    """Say to the pipeline why it runs, and from what.

    Args:
        intent: what was decided.
        digests: content and digest of each image, as they were read last.
    """
    inputs = {}
    for name, content in intent.inputs.items():
        seen, digest = digests.get(name, ("", ""))
        inputs[name] = _ToldInput(content, digest if seen == content else "")
    told = dict(zip(TOLD, (intent.cause, intent.id, ""), strict=True))
    text = msgspec.json.encode(inputs, order="sorted")
    if len(text) <= _INPUTS_BYTES_MAX:
        told[INPUTS] = text.decode()
    return told
