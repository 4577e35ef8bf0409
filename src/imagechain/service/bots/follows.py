"""Carries out what has to follow deployments: starts pipelines, and tells people of failures."""

from collections.abc import Sequence

import msgspec

from imagechain.config import DeploymentSettings
from imagechain.config.told import INTENT
from imagechain.refs import parse_reference
from imagechain.service.bots.deployments import Follow, failure, follow, rules_for
from imagechain.service.bots.looking import FAILED, LOST, PASSED, read_tagged, why_failed
from imagechain.service.bots.ports import BotForge, Keep
from imagechain.service.knowledge import Knowledge
from imagechain.service.ports import Clock, Images, NotNowError, RefusedError
from imagechain.service.starts import UNSURE_SECONDS


class Follows:
    """Begins what has to follow deployments, and brings it further."""

    def __init__(
        self,
        knowledge: Knowledge,
        forge: BotForge,
        images: Images,
        clock: Clock,
        *,
        rules: Sequence[DeploymentSettings],
        keep: Keep[Follow],
    ) -> None:
        self._knowledge = knowledge
        self._forge = forge
        self._images = images
        self._clock = clock
        self._rules = rules
        self._keep = keep

    async def begin(self, project_id: int, deployment_id: int) -> list[Follow]:
        """Say what has to follow a deployment, by all rules."""
        projects = self._knowledge.projects_of(project_id)
        if not projects or not self._rules:
            return []
        deployment = await self._forge.deployment(project_id, deployment_id)
        if deployment is None:
            return []
        path = projects[0].path
        rules = rules_for(self._rules, deployment, path)
        digests = await self._in_production(projects[0].source) if rules else {}
        at = self._clock.now()
        return [follow(number, rule, deployment, path, digests=digests, at=at) for number, rule in rules]

    async def _in_production(self, source: str) -> dict[str, str]:
        tagged = await read_tagged(self._images, self._knowledge.published.get(source, ()), "production")
        return {
            f"{parse_reference(name).name}:production": pinned.partition("@")[2]
            for name, pinned in tagged.items()
        }

    async def advance(self, errand: Follow) -> None:
        """Bring it as far as it can be brought now."""
        before = errand
        match errand.state:
            case "wanted":
                errand = await self._start(errand)
            case "sending":
                errand = await self._find(errand)
            case "running":
                errand = await self._look(errand)
        if errand != before:
            await self._keep(errand)
        if errand.is_over:
            await self._tell(errand)
            await self._keep(errand, is_done=True)

    async def _start(self, errand: Follow) -> Follow:
        project = await self._forge.project(errand.start)
        ref = errand.ref or (project.default_branch if project is not None else None)
        if project is None or ref is None:
            why = f"{errand.start} is not there, has no branch, or may not be seen by imagechain"
            return msgspec.structs.replace(errand, state="failed", why=why)
        sending = msgspec.structs.replace(
            errand,
            state="sending",
            ref=ref,
            target_id=project.id,
            after_pipeline=await self._forge.largest_pipeline(project.id),
            sent_at=self._clock.now(),
        )
        await self._keep(sending)
        variables = errand.variables | ({INTENT: errand.id} if errand.variables else {})
        try:
            pipeline = await self._forge.start(project.id, ref, inputs=errand.inputs, variables=variables)
        except RefusedError as error:
            return msgspec.structs.replace(sending, state="failed", why=str(error))
        except NotNowError:
            await self._keep(errand)
            raise
        return msgspec.structs.replace(sending, state="running", pipeline=pipeline.id, url=pipeline.url)

    async def _find(self, errand: Follow) -> Follow:
        """Find out what became of a request whose answer was lost."""
        if not errand.variables:
            return msgspec.structs.replace(errand, state="failed", why=LOST)
        found = await self._forge.started_with(
            errand.target_id or 0, errand.ref, errand.after_pipeline, INTENT, errand.id
        )
        if found is not None:
            return msgspec.structs.replace(errand, state="running", pipeline=found.id, url=found.url)
        is_certain = self._clock.now() >= errand.sent_at + UNSURE_SECONDS
        return msgspec.structs.replace(errand, state="wanted") if is_certain else errand

    async def _look(self, errand: Follow) -> Follow:
        pipeline = await self._forge.pipeline(errand.target_id or 0, errand.pipeline or 0)
        if pipeline is None:
            return msgspec.structs.replace(errand, state="failed", why="its pipeline was deleted")
        if pipeline.status in FAILED:
            return msgspec.structs.replace(errand, state="failed", why=why_failed(pipeline))
        return msgspec.structs.replace(errand, state="passed") if pipeline.status in PASSED else errand

    async def _tell(self, errand: Follow) -> None:
        """Tell people of a failure, where they look: at the merge request, or at the commit."""
        if errand.state == "failed":
            mark = f"<!-- imagechain deployment {errand.id} -->"
            await self._forge.tell(errand.project_id, errand.sha, mark, f"{mark}\n\n{failure(errand)}")
