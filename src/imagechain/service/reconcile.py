"""Reconciling: read everything again, at the start and at intervals, as if no hint had ever come.

What no webhook announced is found here. The service may have been away for a week: `updated_after`, from the
newest thing that the last pass saw, tells what happened meanwhile, at a cost in proportion to it.
"""

from collections.abc import Collection, Sequence
from math import inf

import structlog

from imagechain.service.follow import Follower
from imagechain.service.hook_rounds import HookRounds
from imagechain.service.knowledge import Knowledge
from imagechain.service.ports import Clock, Pipeline, Pipelines, PipelinesFound, TrackedProject
from imagechain.service.reading import build_of, by_project, ended_at, is_build
from imagechain.store.values import Hint

#: Pipelines whose last change is that much older than the newest are read again: GitLab stamps a change
#: before others can see it.
OVERLAP_SECONDS = 300.0
#: A webhook that has not come after so long will not come any more.
_ANNOUNCED_SECONDS_MAX = 60.0
_WATERMARK = "pipelines"

_log = structlog.get_logger(__name__)


class Reconciler:
    """Reads the groups, the pipelines and the images again.

    Args:
        knowledge: what is known.
        follower: looks at projects.
        forge: where the pipelines are.
        clock: tells when.
        hooks: looks after the webhooks; None: nobody does.
    """

    def __init__(
        self,
        knowledge: Knowledge,
        follower: Follower,
        forge: Pipelines,
        clock: Clock,
        hooks: HookRounds | None = None,
    ) -> None:
        self._knowledge = knowledge
        self._follower = follower
        self._forge = forge
        self._clock = clock
        self._hooks = hooks
        #: Until when a webhook may come still for ended pipelines that were found here, by project and id;
        #: `inf`: it came, or is waited for no more.
        self._comes_by: dict[tuple[int, int], float] = {}
        self._given_up = 0
        self._is_first = True

    async def run(self) -> None:
        """Do one pass.

        Raises:
            RetryableError: GitLab does not answer; what was read so far is kept.
            RefusedError: GitLab says no.
        """
        await self.scan()
        await self.read()

    async def rescan(self) -> None:
        """Find the projects of the groups, what they are built from, and their builds; not their images."""
        await self.scan()
        await self._read_pipelines()

    async def read(self) -> None:
        """Read the builds and the images of the projects that were found."""
        await self._read_pipelines()
        await self._follower.read_all_images()
        await self._follower.look_again()

    async def scan(self) -> None:
        """Find the projects of the groups and what they are built from."""
        at = self._clock.now()
        scan = await self._forge.scan()
        if await self._knowledge.rescan(scan, at):
            _log.info(
                "scanned",
                projects=len(scan.projects),
                dependencies=len(scan.dependencies),
                problems=len(scan.problems),
            )

    async def _read_pipelines(self) -> None:
        knowledge = self._knowledge
        projects = list(knowledge.tracked.values())
        seen = [project for project in projects if self._follower.is_seen(project.source)]
        unseen = [project for project in projects if not self._follower.is_seen(project.source)]
        # All parents are adopted before the builds of any child are judged by what their parents were.
        if unseen:
            await self._follower.see_first(unseen)
        watermark = knowledge.watermarks.get(_WATERMARK, 0.0)
        since = watermark - OVERLAP_SECONDS
        found = await self._forge.pipelines_since(seen, since) if seen else PipelinesFound(())
        is_complete = await self._take_in(seen, found)
        self._is_first = False
        listed = {(one.project_id, one.id) for one in found.pipelines}
        self._give_up(listed)
        await self._follower.look_at_running(listed)
        newest = max((one.updated_at for one in found.pipelines), default=0.0)
        # Else the next pass, which may be that of the next start, begins where this one did.
        if newest > watermark and is_complete:
            await knowledge.take_in(watermarks={_WATERMARK: newest})

    async def _take_in(self, projects: Sequence[TrackedProject], found: PipelinesFound) -> bool:
        """Take in what happened in projects; False: on some of them GitLab failed."""
        pipelines = by_project(found.pipelines)
        self._follower.unseen.miss(found.failed, "its pipelines cannot be listed")
        is_complete = not found.failed
        for project in projects:
            number = project.project_id
            if number in pipelines:
                self._note_ended(project, pipelines[number])
                work = self._follower.take_in_pipelines([project], pipelines[number])
                is_complete &= await self._follower.unseen.patiently(number, work)
        return is_complete

    # --- webhooks that do not come ----------------------------------------------------------------------

    @property
    def unannounced(self) -> int:
        """Ended pipelines that were found here, and that no webhook announced within a minute."""
        return self._given_up + len(self._overdue())

    def hear(self, hint: Hint) -> None:
        """Take note of a webhook: it may come just after what it speaks of was found here."""
        for key in self._comes_by.keys() - self._overdue():
            if key[0] == hint.project_id and (hint.kind == "burst" or key[1] == hint.pipeline_id):
                self._comes_by[key] = inf

    def _note_ended(self, project: TrackedProject, pipelines: Sequence[Pipeline]) -> None:
        """Note the ends that nobody has spoken of so far."""
        if project.source in self._follower.unseen.sources:
            # Somebody has: only its images could not be read since.
            return
        ended = [
            pipeline
            for pipeline in pipelines
            if is_build(pipeline, project)
            and ended_at(pipeline) is not None
            and build_of(self._knowledge.chain, project.source, pipeline) is not None
        ]
        if not self._is_first:
            for one in ended:
                comes_by = one.by_our_clock(one.updated_at) + _ANNOUNCED_SECONDS_MAX
                self._comes_by.setdefault((one.project_id, one.id), comes_by)
        elif ended and self._hooks is not None:
            # Nobody was there to take the webhooks. GitLab disables those that fail some times in a row.
            self._hooks.doubt({project.project_id})

    def _overdue(self) -> set[tuple[int, int]]:
        now = self._clock.now()
        return {key for key, comes_by in self._comes_by.items() if comes_by < now}

    def _give_up(self, listed: Collection[tuple[int, int]]) -> None:
        """Wait no longer for webhooks that are overdue, and have it found out why they do not come."""
        overdue = self._overdue()
        self._given_up += len(overdue)
        self._comes_by |= dict.fromkeys(overdue, inf)
        # What is listed may be listed again, and is not to be counted twice.
        self._comes_by = {key: at for key, at in self._comes_by.items() if at < inf or key in listed}
        if overdue and self._hooks is not None:
            self._hooks.doubt({project_id for project_id, _ in overdue})
