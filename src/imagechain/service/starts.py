"""Starting builds, each exactly once, whatever crashes.

    decide ──► look ──► decide again, intent written ──► start it ──► what GitLab said is observed

GitLab has no idempotency key. So before a pipeline is started, those that are newer than the newest known one
are looked at: a push that nobody spoke of counts as the build, too. What came meanwhile counts: the build is
started only if it would be decided then. After an answer that was lost, or a crash, GitLab may be at work
still: the intent stays open, and nothing is started for that project, nor for what is built from it, until it
was looked at when that must have ended.

Each project has a task of its own: one on which GitLab hangs or fails holds up no other.
"""

import asyncio
import secrets
from collections.abc import Mapping, Sequence

import msgspec
import structlog

from imagechain.chain import (
    BuildFinished,
    BuildStarted,
    Decision,
    FailBuild,
    GivenUp,
    GiveUp,
    Observation,
    StartBuild,
    UnknownSourceError,
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
    """A project on which GitLab failed: which, since when it is not started, for how long, and why."""

    project_id: int
    since: float
    seconds: float
    why: str

    @property
    def until(self) -> float:
        """When it may be started again, after all others."""
        return self.since + self.seconds


class Starter:
    """Decides, and carries out what was decided."""

    def __init__(self, knowledge: Knowledge, follower: Follower, forge: Pipelines, clock: Clock) -> None:
        """Take up the intents that were left open: each may have been carried out.

        Args:
            knowledge: what is known.
            follower: looks at pipelines that are found.
            forge: where they are.
            clock: tells the time.
        """
        self._knowledge = knowledge
        self._follower = follower
        self._forge = forge
        self._clock = clock
        self._begun_at = clock.now()
        # An intent of an earlier life may have been carried out just before that ended.
        knowledge.sent_at.update((intent.id, clock.now()) for intent in knowledge.intents.values())
        #: Projects that are looked at to be started.
        self._looking: set[str] = set()
        #: Intents that a task sees through, by id.
        self._attended: set[str] = set()
        #: How GitLab failed on intents that are open, by id.
        self._unanswered: dict[str, str] = {}
        #: GitLab is left alone until then: it said so, or it is down.
        self._paused_until = 0.0
        self._pause_seconds = _PAUSE_SECONDS_MIN
        #: Projects on which GitLab failed, by source.
        self._put_off: dict[str, _PutOff] = {}
        #: When to decide again if nothing is observed before; None: only an observation changes anything.
        self.wake_at: float | None = None

    async def turn(self, tasks: asyncio.TaskGroup) -> None:
        """Decide once, and have what was decided done by tasks."""
        # While nothing is to be decided, the end of that is what wakes us.
        self.wake_at = None
        starts: list[StartBuild] = []
        await self._knowledge.decide(lambda: self._decide(starts))
        for action in starts:
            self._looking.add(action.project)
            tasks.create_task(self._start_after_look(action))
        for intent in self._knowledge.intents.values():
            if intent.id not in self._attended:
                self._attended.add(intent.id)
                tasks.create_task(self._see_through(intent.id))

    # --- decide -----------------------------------------------------------------------------------------

    def _decide(self, starts: list[StartBuild]) -> tuple[Sequence[Observation], Sequence[Intent]]:
        """Say what is to be written now; what is to be started, if a look finds nothing, goes to a list."""
        now = self._clock.now()
        decision = self._decision(now, self._looking)
        policy, acting_seconds = self._knowledge.chain.facts.policy, now - self._begun_at
        self.wake_at = self._wake_at(decision.wake_at, now)
        observations: list[Observation] = []
        for action in decision.actions:
            match action:
                case StartBuild():
                    if now >= self._paused_until:
                        starts.append(action)
                # By this clock, too, which need not be the one that it began by.
                case FailBuild(project=project, build=build) if acting_seconds >= policy.build_max_seconds:
                    message = "it lasts longer than [policy] build_max allows"
                    observations.append(
                        BuildFinished(project=project, build=build, at=now, outcome="failed", message=message)
                    )
                case GiveUp(project=project) if acting_seconds >= (policy.hold_max_seconds or 0.0):
                    observations.append(GivenUp(project=project, at=now))
        return observations, ()

    def _decision(self, now: float, looking: set[str]) -> Decision:
        """Decide, with what is being started besides."""
        self._forget_put_off()
        put_off = {source for source, off in self._put_off.items() if off.until > now}
        adding = {source for source, one in self._knowledge.awaited.items() if self._may_add(source, one)}
        return decide(
            self._knowledge.chain,
            now,
            held=looking | self._held() | put_off,
            last=self._put_off.keys(),
            starting=len(looking | adding),
        )

    def _held(self) -> set[str]:
        """Name the projects with an open intent, and what is built from them.

        The latter matters where somebody else's build settled the project while the answer to ours was lost.
        """
        chain, awaited = self._knowledge.chain, self._knowledge.awaited
        held = set(awaited)
        for source in awaited:
            if chain.facts.states[chain.graph.number_of(source)].is_settled:
                held |= chain.graph.descendants_of(source)
        return held

    def _may_add(self, source: str, intent: Intent) -> bool:
        """Tell whether an intent may lead to a build besides those that are known."""
        chain = self._knowledge.chain
        is_running = bool(chain.facts.states[chain.graph.number_of(source)].runs)
        return not is_running and (intent.id not in self._knowledge.sent_at or self._is_unsure(intent.id))

    def _forget_put_off(self) -> None:
        """Forget how GitLab failed on projects that are built meanwhile, or that a person asked for since."""
        chain = self._knowledge.chain
        for source, off in list(self._put_off.items()):
            project, number = self._knowledge.tracked.get(source), chain.graph.number.get(source)
            if number is None or project is None or project.project_id != off.project_id:
                # It left; another one may have its path.
                del self._put_off[source]
                continue
            state = chain.facts.states[number]
            if state.is_settled or (state.ask is not None and state.ask.at > off.since):
                del self._put_off[source]

    def _wake_at(self, decided_at: float | None, now: float) -> float | None:
        ends = [self._paused_until, *(off.until for off in self._put_off.values())]
        times = [at for at in ends if at > now]
        return min(times if decided_at is None else [*times, decided_at], default=None)

    def _intent(self, action: StartBuild, project: TrackedProject, now: float) -> Intent:
        name = secrets.token_hex(8)
        return Intent(
            id=name,
            source=project.source,
            project_id=project.project_id,
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

    # --- look, then start -------------------------------------------------------------------------------

    async def _start_after_look(self, action: StartBuild) -> None:
        """Start a build, unless a look finds that it runs, or what came meanwhile changes the decision."""
        source = action.project
        try:
            project = self._knowledge.tracked.get(source)
            if project is None or project.ref is None:
                # Its repository is empty. A push will tell that this is over.
                if project is not None:
                    self._fail_on(project, "its repository is empty, so that nothing can be built")
                return
            await self._look(project, largest_pipeline(self._knowledge.chain, source))
            intent = await self._decide_again(project)
            if intent is not None:
                await self._start(project, intent)
        except NotNowError as error:
            self._pause(error)
        except RetryableError as error:
            _log.warning("GitLab does not answer as it should", source=source, why=str(error))
            if project is not None:
                self._fail_on(project, str(error))
        except RefusedError as error:
            # Else it left, or is another one now.
            if project is not None and self._knowledge.tracked.get(source) == project:
                await self._refuse(self._intent(action, project, self._clock.now()), str(error))
        except UnknownSourceError:
            _log.info("a rescan took it away while it was looked at", source=source)
        finally:
            self._looking.discard(source)
            self._knowledge.changed.set()

    async def _look(self, project: TrackedProject, newest: int) -> bool:
        """Take in builds since the newest known pipeline, whoever started them; tell if there are any."""

        def counts(one: Pipeline) -> bool:
            is_new = is_news if one.id > newest else is_retried
            return is_build(one, project) and is_new(self._knowledge.chain, project.source, one)

        # The newest known one, too: who retries a pipeline in GitLab makes no other.
        found = await self._forge.pipelines_after(project, newest - 1)
        builds = [
            complete
            for one in found
            if counts(one) and counts(complete := await self._follower.complete(one))
        ]
        self._pause_seconds = _PAUSE_SECONDS_MIN
        if builds:
            self._put_off.pop(project.source, None)
            await self._follower.take_in_pipelines([project], builds)
        return bool(builds)

    async def _decide_again(self, project: TrackedProject) -> Intent | None:
        """Write that a build is started, if that is decided still."""
        source = project.source

        def decide_one() -> tuple[Sequence[Observation], Sequence[Intent]]:
            now = self._clock.now()
            if self._knowledge.tracked.get(source) != project:
                # Another project or branch, which was not looked at.
                return (), ()
            actions = self._decision(now, self._looking - {source}).actions
            starts = (one for one in actions if isinstance(one, StartBuild) and one.project == source)
            intents = [self._intent(one, project, now) for one in starts if now >= self._paused_until]
            self._attended.update(intent.id for intent in intents)
            return (), intents

        await self._knowledge.released()
        intents = await self._knowledge.decide(decide_one)
        return intents[0] if intents else None

    async def _start(self, project: TrackedProject, intent: Intent) -> None:
        try:
            if self._clock.now() + REQUEST_SECONDS_MAX >= self._knowledge.lease.expires_at:
                # Nothing was sent. The lease is renewed meanwhile.
                await self._close(intent)
                await self._clock.sleep(_LEASE_SECONDS)
                return
            self._knowledge.sent_at[intent.id] = self._clock.now()
            pipeline = await self._forge.create_pipeline(project, _told(intent, self._follower.digests))
        except NotNowError:
            # Nothing was started by it.
            await self._close(intent)
            raise
        except RefusedError as error:
            await self._refuse(intent, str(error))
        except RetryableError as error:
            # It may have been started: the intent stays open until that is certain.
            _log.warning("GitLab does not answer as it should", source=intent.source, why=str(error))
            self._unanswered[intent.id] = str(error)
        else:
            _log.info("started", source=intent.source, pipeline=pipeline.id, cause=intent.cause)
            # A rescan may have given it another path, or have taken it away.
            now = self._knowledge.project_of(intent)
            if now is None:
                await self._close(intent)
                return
            start = observe_start(pipeline, now, str(pipeline.id), intent, self._clock.now())
            await self._knowledge.take_in([start], closed=[intent.id], of=now)
            self._put_off.pop(now.source, None)
        finally:
            self._attended.discard(intent.id)

    # --- what may have been started ---------------------------------------------------------------------

    async def _see_through(self, name: str) -> None:
        """Look for the build of an intent that may have been started, until it is certain what came of it."""
        while (intent := self._knowledge.intents.get(name)) is not None:
            if self._clock.now() >= self._paused_until:
                # Asked before it is certain, it tells nothing, though the answer may come afterwards.
                is_certain = not self._is_unsure(name)
                try:
                    is_found = await self._is_found(intent)
                except NotNowError as error:
                    self._pause(error)
                except RetryableError as error:
                    _log.warning("GitLab does not answer as it should", source=intent.source, why=str(error))
                    self._unanswered[name] = str(error)
                except UnknownSourceError:
                    _log.info("a rescan took it away while it was looked at", source=intent.source)
                else:
                    if is_certain:
                        await self._close(intent)
                        project = self._knowledge.project_of(intent)
                        if project is not None and not is_found:
                            self._fail_on(project, "a pipeline was asked for, and there is none")
            if name in self._knowledge.intents:
                await self._clock.sleep(self._rest_seconds(name))
        self._attended.discard(name)
        self._unanswered.pop(name, None)

    async def _is_found(self, intent: Intent) -> bool:
        project = self._knowledge.project_of(intent)
        if project is None or project.ref is None:
            # It left; if it comes back at once, its pipeline may still come.
            return False
        try:
            return await self._look(project, intent.after_pipeline)
        except RefusedError as error:
            _log.warning("cannot look at it", source=intent.source, why=str(error))
            return False

    def _is_unsure(self, name: str) -> bool:
        """Tell whether a request that got no answer may still start a pipeline."""
        return self._clock.now() < self._knowledge.sent_at[name] + UNSURE_SECONDS

    def _rest_seconds(self, name: str) -> float:
        """Tell when to look for the build of an intent again."""
        now = self._clock.now()
        if now < self._paused_until:
            return self._paused_until - now
        unsure_seconds = self._knowledge.sent_at[name] + UNSURE_SECONDS - now
        return min(unsure_seconds, _LOOK_SECONDS) if unsure_seconds > 0.0 else _LOOK_SECONDS

    # --- failures ---------------------------------------------------------------------------------------

    async def _refuse(self, intent: Intent, why: str) -> None:
        """Report what GitLab refuses as a build that failed, and is not tried again by itself."""
        _log.warning("refused", source=intent.source, why=why)
        project = self._knowledge.project_of(intent)
        if project is None:
            # It left, which may be why.
            await self._close(intent)
            return
        now = self._clock.now()
        build = f"refused:{intent.id}"
        await self._knowledge.take_in(
            [
                BuildStarted(
                    project=project.source,
                    build=build,
                    at=now,
                    inputs=intent.inputs,
                    cause=intent.cause,
                    cascade=intent.cascade,
                ),
                BuildFinished(project=project.source, build=build, at=now, outcome="cancelled", message=why),
            ],
            closed=[intent.id],
        )

    async def _close(self, intent: Intent) -> None:
        await self._knowledge.take_in(closed=[intent.id])

    @property
    def failing(self) -> Mapping[str, str]:
        """Say how GitLab failed on projects that are put off, or may have been started, by source."""
        awaited = self._knowledge.awaited.items()
        why = {source: self._unanswered[one.id] for source, one in awaited if one.id in self._unanswered}
        return why | {source: off.why for source, off in self._put_off.items()}

    def _fail_on(self, project: TrackedProject, why: str) -> None:
        """Put a project off on which GitLab failed: others go first."""
        last = self._put_off.get(project.source)
        seconds = _PAUSE_SECONDS_MIN if last is None else min(2 * last.seconds, _PAUSE_SECONDS_MAX)
        self._put_off[project.source] = _PutOff(project.project_id, self._clock.now(), seconds, why)

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
