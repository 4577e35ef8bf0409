"""Runs the bots' errands: looks at what was asked for, writes it down, acts, and says what came of it.

    hint ──► look ──► errand written ──► "sending" written ──► pipeline started ──► its end ──► shown

GitLab has no idempotency key. So before a pipeline is asked for, that is written down. After a crash, or an
answer that was lost, the pipeline is looked for by the errand's name, which is among its variables. Where a
pipeline takes inputs only, nothing tells it from others: a person is told to look, and nothing starts twice.
"""

import asyncio
from collections.abc import Iterable

import msgspec
import structlog

from imagechain.config import BotSettings
from imagechain.service.bots.comments import read_request
from imagechain.service.bots.deployments import Follow
from imagechain.service.bots.follows import Follows
from imagechain.service.bots.ports import BotForge
from imagechain.service.bots.trial import Trial
from imagechain.service.bots.trials import Trials
from imagechain.service.knowledge import Knowledge
from imagechain.service.ports import Clock, Images, Pipeline, RefusedError, RetryableError
from imagechain.store.values import ErrandRow

#: How often running pipelines are asked for, besides their webhooks.
POLL_SECONDS = 30.0
#: Errands that go on at once; more wait for these.
OPEN_MAX = 100

_log = structlog.get_logger(__name__)

Errand = Trial | Follow


class Errands:
    """All errands, and the only way to change them."""

    def __init__(
        self,
        knowledge: Knowledge,
        forge: BotForge,
        images: Images,
        clock: Clock,
        *,
        settings: BotSettings,
        rows: Iterable[ErrandRow],
    ) -> None:
        self.woken = asyncio.Event()
        self._knowledge = knowledge
        self._forge = forge
        self._may_test = settings.test
        self._trials = Trials(knowledge, forge, images, clock, self._write)
        self._follows = Follows(knowledge, forge, images, clock, rules=settings.deployments, keep=self._write)
        self._turn = asyncio.Lock()
        self._errands: dict[str, Errand] = {}
        self._open: set[str] = set()
        for row in rows:
            self._errands[row.id] = _decoder.decode(row.body)
            if not row.is_done:
                self._open.add(row.id)

    # --- which pipelines are no builds ------------------------------------------------------------------

    def is_trial(self, pipeline: Pipeline) -> bool:
        """Tell whether a pipeline only tries images, or may be one that was just asked for."""
        return pipeline.source == "api" and any(
            step.project_id == pipeline.project_id
            and (
                step.pipeline == pipeline.id
                or (
                    step.state == "sending" and pipeline.id > step.after_pipeline and pipeline.ref == step.ref
                )
            )
            for errand in self._errands.values()
            if isinstance(errand, Trial)
            for step in errand.steps
        )

    # --- hints ------------------------------------------------------------------------------------------

    async def look_at_note(self, project_id: int, merge_request: int, note_id: int) -> None:
        """Follow up a hint about a comment."""
        name = f"{project_id}-{merge_request}-{note_id}"
        if not self._may_test or name in self._errands:
            # An edited request was a request before: it is not obeyed twice.
            return
        me, bot = await self._forge.me()
        note = await self._forge.note(project_id, merge_request, note_id)
        if note is None or note.author_id == me or note.is_system or note.is_internal:
            return
        request = read_request(note.body, bot)
        if request is None or not await self._forge.is_developer(project_id, note.author_id):
            return
        async with self._turn:
            going_on = [each for id in self._open if isinstance(each := self._errands[id], Trial)]
            trial = await self._trials.begin(name, project_id, merge_request, request, going_on)
            if trial is not None:
                await self._write(trial)
        self.woken.set()

    async def look_at_deployment(self, project_id: int, deployment_id: int) -> None:
        """Follow up a hint about a deployment."""
        wanted = await self._follows.begin(project_id, deployment_id)
        async with self._turn:
            for errand in wanted:
                if errand.id not in self._errands:
                    await self._write(errand)
        self.woken.set()

    def look_at_pipeline(self, project_id: int, pipeline_id: int) -> None:
        """Follow up a hint about a pipeline."""
        for name in self._open:
            if (project_id, pipeline_id) in _running(self._errands[name]):
                self.woken.set()

    # --- the way of an errand ---------------------------------------------------------------------------

    @property
    def is_busy(self) -> bool:
        """Whether anything goes on."""
        return bool(self._open)

    async def turn(self) -> None:
        """Bring every errand a step further, as far as GitLab answers."""
        ordered = sorted(self._open, key=lambda name: self._errands[name].at)
        for name in ordered[:OPEN_MAX]:
            async with self._turn:
                errand = self._errands[name]
                try:
                    if isinstance(errand, Trial):
                        await self._trials.advance(errand)
                    else:
                        await self._follows.advance(errand)
                except RetryableError as error:
                    _log.warning("GitLab does not answer as it should", errand=name, why=str(error))
                except RefusedError as error:
                    # What cannot be said to people is said in the log; it is not tried for ever.
                    _log.error("an errand is given up", errand=name, why=str(error))
                    await self._write(self._errands[name], is_done=True)

    async def _write(self, errand: Errand, *, is_done: bool = False) -> None:
        row = ErrandRow(
            id=errand.id, at=errand.at, is_done=is_done, body=msgspec.json.encode(errand).decode()
        )
        await self._knowledge.take_in(errands=[row])
        self._errands[errand.id] = errand
        (self._open.discard if is_done else self._open.add)(errand.id)


_decoder: msgspec.json.Decoder[Errand] = msgspec.json.Decoder(Errand)


def _running(errand: Errand) -> list[tuple[int | None, int | None]]:
    if isinstance(errand, Trial):
        return [(step.project_id, step.pipeline) for step in errand.steps if step.state == "running"]
    return [(errand.target_id, errand.pipeline)]
