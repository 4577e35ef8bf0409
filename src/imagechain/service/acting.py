"""What the acting replica works with, and how it follows hints up: each is looked at, none is believed."""

import asyncio
from collections.abc import Mapping, Sequence

import msgspec
import structlog

from imagechain.chain import Chain, UnknownSourceError
from imagechain.config import BotSettings
from imagechain.service.bots.errands import Errands
from imagechain.service.bots.forge import WithoutTrials
from imagechain.service.bots.ports import BotForge
from imagechain.service.commands import is_command, observe_command
from imagechain.service.follow import Follower
from imagechain.service.hook_rounds import HookRounds, is_within
from imagechain.service.knowledge import Knowledge
from imagechain.service.ports import Clock, Forge, Images, Pipelines, RefusedError, RetryableError, Store
from imagechain.service.reconcile import Reconciler
from imagechain.service.starts import Starter
from imagechain.store.values import ErrandRow, Hint, StoredHint

#: What may have changed files, and started a pipeline. What else a hint may speak of changes no build.
_PUSHES = frozenset({"push", "merge", "burst"})

_log = structlog.get_logger(__name__)


class Ports(msgspec.Struct, frozen=True, kw_only=True):
    """The world."""

    forge: Forge
    images: Images
    store: Store
    clock: Clock
    #: What the bots ask of GitLab; None: there are no bots.
    bots: BotForge | None = None
    #: Looks after the webhooks; None: nobody does.
    hooks: HookRounds | None = None


class Acting:
    """What the acting replica works with; made anew with each lease."""

    def __init__(
        self, ports: Ports, knowledge: Knowledge, bots: BotSettings, errands: Sequence[ErrandRow]
    ) -> None:
        self.knowledge = knowledge
        self.clock = clock = ports.clock
        self.errands: Errands | None = None
        forge: Pipelines = ports.forge
        if ports.bots is not None:
            self.errands = Errands(knowledge, ports.bots, ports.images, clock, settings=bots, rows=errands)
            forge = WithoutTrials(forge, self.errands.is_trial)
        self.follower = Follower(knowledge, forge, ports.images, clock)
        self.starter = Starter(knowledge, self.follower, forge, clock)
        self.reconciler = Reconciler(knowledge, self.follower, forge, clock, ports.hooks)
        #: Set when files may have changed.
        self.rescan_wanted = asyncio.Event()
        self.is_deciding = False
        #: One command after the other, as they came: a pause and its end must not change places.
        self._obeying = asyncio.Lock()
        #: Why GitLab refused webhooks in the last round, by the paths of projects and groups.
        self.unhooked: Mapping[str, str] = {}

    async def follow(self, hints: Sequence[StoredHint]) -> list[int]:
        """Follow up hints, each thing once; gives the ids of those that could not be."""
        same: dict[Hint, list[int]] = {}
        reconciles = []
        async with self._obeying:
            for stored in hints:
                if is_command(stored.hint):
                    await self._obey(stored)
        for stored in hints:
            if stored.hint.kind == "reconcile":
                reconciles.append(stored.id)
            elif not is_command(stored.hint):
                same.setdefault(stored.hint, []).append(stored.id)
        failed: dict[int, str] = {}
        async with asyncio.TaskGroup() as tasks:
            for hint, ids in same.items():
                tasks.create_task(self._follow(hint, ids, failed))
            if reconciles:
                tasks.create_task(self._reconcile(reconciles))
        if failed:
            # Once for all of them: while GitLab is down, hundreds are tried again every few seconds.
            why = next(iter(failed.values()))
            _log.warning("GitLab does not answer as it should", hints=len(failed), why=why)
        return list(failed)

    async def _follow(self, hint: Hint, ids: list[int], failed: dict[int, str]) -> None:
        try:
            if hint.project_id is not None and self._is_believed(hint):
                await self._look(hint, hint.project_id)
        except RetryableError as error:
            failed |= dict.fromkeys(ids, str(error))
        except RefusedError as error:
            _log.warning("cannot look at it", hint=hint, why=str(error))
            await self.knowledge.take_in(hints_done=ids)
        else:
            await self.knowledge.take_in(hints_done=ids)

    def _is_believed(self, hint: Hint) -> bool:
        """Tell whether a hint is about a tracked project, and came by a hook that may speak of it."""
        projects = self.knowledge.projects_of(hint.project_id or 0)
        return any(not hint.group or is_within(project.path, hint.group) for project in projects)

    async def _look(self, hint: Hint, project_id: int) -> None:
        self.reconciler.hear(hint)
        # If GitLab fails on the project, one look later stands for all hints about it: else they would fill
        # the inbox, and those of other projects would never be seen.
        await self.follower.unseen.patiently(project_id, self._look_at_builds(hint, project_id))
        if hint.kind in _PUSHES:
            self.rescan_wanted.set()
        if self.errands is not None:
            await self._look_for_bots(self.errands, hint, project_id)

    async def _look_at_builds(self, hint: Hint, project_id: int) -> None:
        if hint.kind == "burst":
            await self.follower.look_at_all_of(project_id)
        elif hint.pipeline_id is not None:
            await self.follower.look_at_pipeline(project_id, hint.pipeline_id)
        elif hint.kind in _PUSHES:
            await self.follower.look_at_project(project_id)

    @staticmethod
    async def _look_for_bots(errands: Errands, hint: Hint, project_id: int) -> None:
        if hint.pipeline_id is not None:
            errands.look_at_pipeline(project_id, hint.pipeline_id)
        elif hint.note_id is not None and hint.merge_request is not None:
            await errands.look_at_note(project_id, hint.merge_request, hint.note_id)
        elif hint.deployment_id is not None:
            await errands.look_at_deployment(project_id, hint.deployment_id)

    async def _reconcile(self, ids: Sequence[int]) -> None:
        try:
            await self.reconciler.run()
        except (RetryableError, RefusedError) as error:
            _log.warning("GitLab does not answer as it should", during="reconcile", why=str(error))
        await self.knowledge.take_in(hints_done=ids)

    async def _obey(self, stored: StoredHint) -> None:
        try:
            asked = observe_command(self.knowledge.chain, stored.hint, self.clock.now())
        except UnknownSourceError as error:
            _log.warning("a command names nothing", why=str(error))
            asked = []
        await self.knowledge.take_in(asked, hints_done=[stored.id])


def external_images(chain: Chain) -> tuple[list[str], float]:
    """Name the external images, and tell when one of them moved last."""
    graph, facts = chain.graph, chain.facts
    keys = [
        graph.outputs[number][0] for number, source in enumerate(graph.sources) if source.kind == "external"
    ]
    moved = [facts.changed_at[key] for key in keys if facts.before[key] is not None]
    return [graph.input_names[key] for key in keys], max(moved, default=0.0)
