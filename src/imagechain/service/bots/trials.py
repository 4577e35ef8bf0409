"""Carries trials out: from a request to the comment that says what came of it.

What is to be done next, `trial` decides; here GitLab is asked, and each step is kept before it is taken.
"""

from collections.abc import Iterable, Sequence

import msgspec

from imagechain.config.told import INTENT
from imagechain.images.trial import TRIAL_VARIABLE
from imagechain.service.bots.comments import Request, marker, render
from imagechain.service.bots.looking import FAILED, LOST, PASSED, read_tagged, why_failed
from imagechain.service.bots.ports import BotForge, FoundMergeRequest, FoundNote, Keep
from imagechain.service.bots.trial import Step, Trial, changed, plan_steps, startable, told
from imagechain.service.knowledge import Knowledge
from imagechain.service.ports import Clock, Images, NotNowError, RefusedError
from imagechain.service.starts import UNSURE_SECONDS


class Trials:
    """Begins trials, and brings them further."""

    def __init__(
        self, knowledge: Knowledge, forge: BotForge, images: Images, clock: Clock, keep: Keep[Trial]
    ) -> None:
        self._knowledge = knowledge
        self._forge = forge
        self._images = images
        self._clock = clock
        self._keep = keep

    async def begin(
        self, name: str, project_id: int, merge_request: int, request: Request, others: Iterable[Trial]
    ) -> Trial | None:
        """Say what a request comes to; None: the same is being tested already.

        Args:
            name: of the trial.
            project_id: whose merge request.
            merge_request: its number.
            request: what is asked for.
            others: the trials that go on.
        """
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
            elif _is_tested(msgspec.structs.replace(trial, steps=steps), others):
                return None
            else:
                trial = msgspec.structs.replace(trial, steps=steps)
        return msgspec.structs.replace(trial, problem=problem)

    async def _tagged(self, source: str, tag: str) -> dict[str, str]:
        return await read_tagged(self._images, self._knowledge.published.get(source, ()), tag)

    async def advance(self, trial: Trial) -> None:
        """Bring a trial as far as it can be brought now."""
        for step in trial.steps:
            if step.state in {"sending", "running"}:
                trial = changed(trial, await self._look_at_step(step))
                await self._keep(trial)
        while steps := startable(trial):
            trial = await self._start_step(trial, steps[0])
        await self._say(trial)

    async def _look_at_step(self, step: Step) -> Step:
        if step.state == "sending":
            return await self._find_step(step)
        pipeline = await self._forge.pipeline(step.project_id, step.pipeline or 0)
        if pipeline is None:
            return msgspec.structs.replace(step, state="failed", why="its pipeline was deleted")
        if pipeline.status in FAILED:
            return msgspec.structs.replace(step, state="failed", why=why_failed(pipeline))
        if pipeline.status not in PASSED:
            return step
        images = await self._tagged(step.source, f"p-{pipeline.id}")
        if not images and step.publishes:
            why = f"its pipeline passed, but made no image with the tag `p-{pipeline.id}`"
            return msgspec.structs.replace(step, state="failed", why=why)
        return msgspec.structs.replace(step, state="passed", images=images)

    async def _find_step(self, step: Step) -> Step:
        """Find out what became of a request whose answer was lost."""
        if step.by == "input":
            return msgspec.structs.replace(step, state="failed", why=LOST)
        name = _step_name(step)
        found = await self._forge.started_with(step.project_id, step.ref, step.after_pipeline, INTENT, name)
        if found is not None:
            return msgspec.structs.replace(step, state="running", pipeline=found.id, url=found.url)
        if self._clock.now() < step.sent_at + UNSURE_SECONDS:
            return step
        return msgspec.structs.replace(step, state="waiting")

    async def _start_step(self, trial: Trial, step: Step) -> Trial:
        after = await self._forge.largest_pipeline(step.project_id)
        step = msgspec.structs.replace(step, state="sending", sent_at=self._clock.now(), after_pipeline=after)
        trial = changed(trial, step)
        await self._keep(trial)
        images = told(trial, step)
        values = {TRIAL_VARIABLE: images, INTENT: _step_name(step)}
        inputs = {TRIAL_VARIABLE.lower(): images} if step.by == "input" else {}
        variables = {} if step.by == "input" else values
        try:
            pipeline = await self._forge.start(step.project_id, step.ref, inputs=inputs, variables=variables)
        except RefusedError as error:
            step = msgspec.structs.replace(step, state="failed", why=str(error))
        except NotNowError:
            await self._keep(changed(trial, msgspec.structs.replace(step, state="waiting")))
            raise
        else:
            step = msgspec.structs.replace(step, state="running", pipeline=pipeline.id, url=pipeline.url)
        trial = changed(trial, step)
        await self._keep(trial)
        return trial

    async def _say(self, trial: Trial) -> None:
        """Keep the one comment up to date; when the last word is said, the trial is done."""
        text = render(trial)
        if text != trial.said:
            comment = trial.comment
            if comment is None:
                notes = await self._forge.notes(trial.project_id, trial.merge_request)
                comment = _own_comment(notes, marker(trial), (await self._forge.me())[0])
            comment = await self._forge.write_note(trial.project_id, trial.merge_request, text, comment)
            trial = msgspec.structs.replace(trial, comment=comment, said=text)
            await self._keep(trial, is_done=trial.is_over)
        elif trial.is_over:
            await self._keep(trial, is_done=True)


def _is_tested(trial: Trial, others: Iterable[Trial]) -> bool:
    wanted = {step.source for step in trial.steps}
    return any(
        not other.is_over
        and (other.project_id, other.merge_request) == (trial.project_id, trial.merge_request)
        and other.images == trial.images
        and wanted <= {step.source for step in other.steps}
        for other in others
    )


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


def _step_name(step: Step) -> str:
    """Name a request to start a step: each has its own, by the time of it."""
    return f"trial-{step.project_id}-{step.after_pipeline}-{step.sent_at:.3f}"
