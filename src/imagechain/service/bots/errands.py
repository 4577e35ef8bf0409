"""Runs the bots' errands: looks at what was asked for, writes it down, acts, and says what came of it.

    hint ──► look ──► errand written ──► "sending" written ──► pipeline started ──► its end ──► shown

GitLab has no idempotency key. So before a pipeline is asked for, that is written down. After a crash, or an
answer that was lost, the pipeline is looked for by the errand's name, which is among its variables. Where a
pipeline takes inputs only, nothing tells it from others: a person is told to look, and nothing starts twice.
"""

import asyncio
from collections.abc import Iterable, Sequence

import msgspec
import structlog

from imagechain.config import BotSettings
from imagechain.refs import parse_reference
from imagechain.service.bots.comments import Request, marker, read_request, render
from imagechain.service.bots.deployments import Follow, failure, follow, rules_for
from imagechain.service.bots.ports import BotForge, FoundMergeRequest, FoundNote
from imagechain.service.bots.trial import Step, Trial, changed, plan_steps, startable, told
from imagechain.service.knowledge import Knowledge
from imagechain.service.ports import (
    TRIAL_VARIABLE,
    Clock,
    ImageRead,
    Images,
    ImageUnchecked,
    NotNowError,
    Pipeline,
    RefusedError,
    RetryableError,
)
from imagechain.service.starts import TOLD, UNSURE_SECONDS
from imagechain.store.values import ErrandRow

#: How often running pipelines are asked for, besides their webhooks.
POLL_SECONDS = 30.0
#: Errands that go on at once; more wait for these.
OPEN_MAX = 100
_INTENT_VARIABLE = TOLD[1]
_PASSED = frozenset({"success", "manual"})
_FAILED = frozenset({"failed", "canceled", "skipped"})
_LOST = "GitLab's answer was lost; look whether its pipeline runs"

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
        self._images = images
        self._clock = clock
        self._settings = settings
        self._me: tuple[int, str] | None = None
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
        if not self._settings.test or name in self._errands:
            # An edited request was a request before: it is not obeyed twice.
            return
        me, bot = await self._who_am_i()
        note = await self._forge.note(project_id, merge_request, note_id)
        if note is None or note.author_id == me or note.is_system or note.is_internal:
            return
        request = read_request(note.body, bot)
        if request is None or not await self._forge.is_developer(project_id, note.author_id):
            return
        async with self._turn:
            trial = await self._begin(name, project_id, merge_request, request)
            if trial is not None:
                await self._write(trial)
        self.woken.set()

    async def look_at_deployment(self, project_id: int, deployment_id: int) -> None:
        """Follow up a hint about a deployment."""
        projects = self._knowledge.projects_of(project_id)
        if not projects or not self._settings.deployments:
            return
        deployment = await self._forge.deployment(project_id, deployment_id)
        if deployment is None:
            return
        rules = rules_for(self._settings.deployments, deployment, projects[0].path)
        if not rules:
            return
        digests = await self._in_production(projects[0].source)
        async with self._turn:
            for number, rule in rules:
                errand = follow(
                    number, rule, deployment, projects[0].path, digests=digests, at=self._clock.now()
                )
                if errand.id not in self._errands:
                    await self._write(errand)
        self.woken.set()

    def look_at_pipeline(self, project_id: int, pipeline_id: int) -> None:
        """Follow up a hint about a pipeline."""
        for name in self._open:
            if (project_id, pipeline_id) in _running(self._errands[name]):
                self.woken.set()

    async def _who_am_i(self) -> tuple[int, str]:
        if self._me is None:
            self._me = await self._forge.me()
        return self._me

    # --- the beginning of a trial -----------------------------------------------------------------------

    async def _begin(self, name: str, project_id: int, merge_request: int, request: Request) -> Trial | None:
        """Say what a request comes to; None: the same is being tested already."""
        projects = self._knowledge.projects_of(project_id)
        trial = Trial(
            id=name,
            project_id=project_id,
            merge_request=merge_request,
            source=projects[0].source,
            at=self._clock.now(),
            tag=request.image_tag,
        )
        found = await self._forge.merge_request(project_id, merge_request)
        if found is None:
            return None
        problem = request.problem or _unfit(found, project_id)
        if not problem and not trial.tag:
            if found.head_pipeline is None:
                problem = "This merge request has no pipeline, so there is no image to test."
            trial = msgspec.structs.replace(trial, tag=f"p-{found.head_pipeline}")
        if not problem:
            images = await self._tagged(trial.source, trial.tag)
            trial = msgspec.structs.replace(trial, images=images)
            if not images:
                problem = f"There is no image with the tag `{trial.tag}` yet. Ask again when it is built."
        if not problem:
            steps = plan_steps(
                self._knowledge.chain.graph, self._knowledge.tracked, trial.source, request.projects
            )
            if isinstance(steps, str):
                problem = steps
            elif self._is_tested_already(msgspec.structs.replace(trial, steps=steps)):
                return None
            else:
                trial = msgspec.structs.replace(trial, steps=steps)
        return msgspec.structs.replace(trial, problem=problem)

    def _is_tested_already(self, trial: Trial) -> bool:
        wanted = {step.source for step in trial.steps}
        return any(
            isinstance(other := self._errands[name], Trial)
            and not other.is_over
            and (other.project_id, other.merge_request) == (trial.project_id, trial.merge_request)
            and other.images == trial.images
            and wanted <= {step.source for step in other.steps}
            for name in self._open
        )

    async def _tagged(self, source: str, tag: str) -> dict[str, str]:
        """Read a project's images under a tag: pinned, by the references that others name."""
        found = {}
        for published in self._knowledge.published.get(source, ()):
            reference = msgspec.structs.replace(parse_reference(published), tag=tag, digest=None)
            reading = await self._images.read(str(reference))
            if isinstance(reading, ImageUnchecked):
                raise RetryableError(reading.message)
            if isinstance(reading, ImageRead):
                found[published] = f"{reference.name}@{reading.digest}"
        return found

    async def _in_production(self, source: str) -> dict[str, str]:
        tagged = await self._tagged(source, "production")
        return {
            f"{parse_reference(name).name}:production": pinned.partition("@")[2]
            for name, pinned in tagged.items()
        }

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
                        await self._advance_trial(errand)
                    else:
                        await self._advance_follow(errand)
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

    async def _advance_trial(self, trial: Trial) -> None:
        for step in trial.steps:
            if step.state in {"sending", "running"}:
                trial = changed(trial, await self._look_at_step(step))
                await self._write(trial)
        while steps := startable(trial):
            trial = await self._start_step(trial, steps[0])
        await self._say(trial)

    async def _look_at_step(self, step: Step) -> Step:
        if step.state == "sending":
            return await self._find_step(step)
        pipeline = await self._forge.pipeline(step.project_id, step.pipeline or 0)
        if pipeline is None:
            return msgspec.structs.replace(step, state="failed", why="its pipeline was deleted")
        if pipeline.status in _FAILED:
            return msgspec.structs.replace(step, state="failed", why=_why(pipeline))
        if pipeline.status not in _PASSED:
            return step
        images = await self._tagged(step.source, f"p-{pipeline.id}")
        if not images and step.publishes:
            why = f"its pipeline passed, but made no image with the tag `p-{pipeline.id}`"
            return msgspec.structs.replace(step, state="failed", why=why)
        return msgspec.structs.replace(step, state="passed", images=images)

    async def _find_step(self, step: Step) -> Step:
        """Find out what became of a request whose answer was lost."""
        if step.by == "input":
            return msgspec.structs.replace(step, state="failed", why=_LOST)
        name = _step_name(step)
        found = await self._forge.started_with(
            step.project_id, step.ref, step.after_pipeline, _INTENT_VARIABLE, name
        )
        if found is not None:
            return msgspec.structs.replace(step, state="running", pipeline=found.id, url=found.url)
        if self._clock.now() < step.sent_at + UNSURE_SECONDS:
            return step
        return msgspec.structs.replace(step, state="waiting")

    async def _start_step(self, trial: Trial, step: Step) -> Trial:
        after = await self._forge.largest_pipeline(step.project_id)
        step = msgspec.structs.replace(step, state="sending", sent_at=self._clock.now(), after_pipeline=after)
        trial = changed(trial, step)
        await self._write(trial)
        images = told(trial, step)
        values = {TRIAL_VARIABLE: images, _INTENT_VARIABLE: _step_name(step)}
        inputs = {TRIAL_VARIABLE.lower(): images} if step.by == "input" else {}
        variables = {} if step.by == "input" else values
        try:
            pipeline = await self._forge.start(step.project_id, step.ref, inputs=inputs, variables=variables)
        except RefusedError as error:
            step = msgspec.structs.replace(step, state="failed", why=str(error))
        except NotNowError:
            await self._write(changed(trial, msgspec.structs.replace(step, state="waiting")))
            raise
        else:
            step = msgspec.structs.replace(step, state="running", pipeline=pipeline.id, url=pipeline.url)
        trial = changed(trial, step)
        await self._write(trial)
        return trial

    async def _say(self, trial: Trial) -> None:
        """Keep the one comment up to date; when the last word is said, the trial is done."""
        text = render(trial)
        if text != trial.said:
            comment = trial.comment
            if comment is None:
                notes = await self._forge.notes(trial.project_id, trial.merge_request)
                comment = _own_comment(notes, marker(trial), (await self._who_am_i())[0])
            comment = await self._forge.write_note(trial.project_id, trial.merge_request, text, comment)
            trial = msgspec.structs.replace(trial, comment=comment, said=text)
            await self._write(trial, is_done=trial.is_over)
        elif trial.is_over:
            await self._write(trial, is_done=True)

    # --- deployments ------------------------------------------------------------------------------------

    async def _advance_follow(self, errand: Follow) -> None:
        match errand.state:
            case "wanted":
                errand = await self._start_follow(errand)
            case "sending":
                errand = await self._find_follow(errand)
            case "running":
                errand = await self._look_at_follow(errand)
        await self._tell(errand)

    async def _start_follow(self, errand: Follow) -> Follow:
        project = await self._forge.project(errand.start)
        ref = errand.ref or (project.default_branch if project is not None else None)
        if project is None or ref is None:
            why = f"{errand.start} is not there, has no branch, or may not be seen by imagechain"
            return await self._kept(msgspec.structs.replace(errand, state="failed", why=why))
        after = await self._forge.largest_pipeline(project.id)
        errand = await self._kept(
            msgspec.structs.replace(
                errand,
                state="sending",
                ref=ref,
                target_id=project.id,
                after_pipeline=after,
                sent_at=self._clock.now(),
            )
        )
        variables = errand.variables | ({_INTENT_VARIABLE: errand.id} if errand.variables else {})
        try:
            pipeline = await self._forge.start(project.id, ref, inputs=errand.inputs, variables=variables)
        except RefusedError as error:
            return await self._kept(msgspec.structs.replace(errand, state="failed", why=str(error)))
        except NotNowError:
            await self._write(msgspec.structs.replace(errand, state="wanted"))
            raise
        return await self._kept(
            msgspec.structs.replace(errand, state="running", pipeline=pipeline.id, url=pipeline.url)
        )

    async def _find_follow(self, errand: Follow) -> Follow:
        if not errand.variables:
            return await self._kept(msgspec.structs.replace(errand, state="failed", why=_LOST))
        found = await self._forge.started_with(
            errand.target_id or 0, errand.ref, errand.after_pipeline, _INTENT_VARIABLE, errand.id
        )
        if found is not None:
            errand = msgspec.structs.replace(errand, state="running", pipeline=found.id, url=found.url)
        elif self._clock.now() >= errand.sent_at + UNSURE_SECONDS:
            errand = msgspec.structs.replace(errand, state="wanted")
        return await self._kept(errand)

    async def _look_at_follow(self, errand: Follow) -> Follow:
        pipeline = await self._forge.pipeline(errand.target_id or 0, errand.pipeline or 0)
        if pipeline is None:
            errand = msgspec.structs.replace(errand, state="failed", why="its pipeline was deleted")
        elif pipeline.status in _FAILED:
            errand = msgspec.structs.replace(errand, state="failed", why=_why(pipeline))
        elif pipeline.status in _PASSED:
            errand = msgspec.structs.replace(errand, state="passed")
        return await self._kept(errand)

    async def _kept(self, errand: Follow) -> Follow:
        if errand != self._errands.get(errand.id):
            await self._write(errand)
        return errand

    async def _tell(self, errand: Follow) -> None:
        """Tell people of a failure, where they look: at the merge request, or at the commit."""
        if errand.state == "failed":
            mark = f"<!-- imagechain deployment {errand.id} -->"
            await self._forge.tell(errand.project_id, errand.sha, mark, f"{mark}\n\n{failure(errand)}")
        if errand.is_over:
            await self._write(errand, is_done=True)


_decoder: msgspec.json.Decoder[Errand] = msgspec.json.Decoder(Errand)


def _unfit(found: FoundMergeRequest, project_id: int) -> str:
    if found.state != "opened":
        return f"This merge request is {found.state}: there is nothing to test."
    if found.source_project_id != project_id:
        return (
            "This merge request comes from a fork. Its image is not tested: "
            "the pipelines of other projects would run what their developers have not seen."
        )
    return ""


def _own_comment(notes: Sequence[FoundNote], text: str, me: int) -> int | None:
    return next((note.id for note in notes if note.author_id == me and note.body.startswith(text)), None)


def _running(errand: Errand) -> list[tuple[int | None, int | None]]:
    if isinstance(errand, Trial):
        return [(step.project_id, step.pipeline) for step in errand.steps if step.state == "running"]
    return [(errand.target_id, errand.pipeline)]


def _step_name(step: Step) -> str:
    """Name a request to start a step: each has its own, by the time of it."""
    return f"trial-{step.project_id}-{step.after_pipeline}-{step.sent_at:.3f}"


def _why(pipeline: Pipeline) -> str:
    return "" if pipeline.status == "failed" else f"its pipeline was {pipeline.status}"
