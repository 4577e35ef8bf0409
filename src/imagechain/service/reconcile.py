"""Reconciling: read everything again, at the start and at intervals, as if no hint had ever come.

What no webhook announced is found here. The service may have been away for a week: `updated_after`, from the
newest thing that the last pass saw, tells what happened meanwhile, at a cost in proportion to it.
"""

from collections.abc import Sequence

import structlog

from imagechain.service.follow import Follower
from imagechain.service.knowledge import Knowledge
from imagechain.service.ports import Clock, Pipeline, Pipelines, PipelinesFound, TrackedProject
from imagechain.service.reading import build_of, by_project, ended_at, is_build

#: Pipelines whose last change is that much older than the newest are read again: GitLab stamps a change
#: before others can see it.
OVERLAP_SECONDS = 300.0
#: A webhook that has not come after so long will not come any more.
_ANNOUNCED_SECONDS_MAX = 60.0
_WATERMARK = "pipelines"

_log = structlog.get_logger(__name__)


class Reconciler:
    """Reads the groups, the pipelines and the images again."""

    def __init__(self, knowledge: Knowledge, follower: Follower, forge: Pipelines, clock: Clock) -> None:
        self._knowledge = knowledge
        self._follower = follower
        self._forge = forge
        self._clock = clock
        #: Ended pipelines that were found here and should have been announced long before.
        self.unannounced = 0
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
        await self._follower.look_at_running({(one.project_id, one.id) for one in found.pipelines})
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
                self._count_unannounced(project, pipelines[number])
                work = self._follower.take_in_pipelines([project], pipelines[number])
                is_complete &= await self._follower.unseen.patiently(number, work)
        return is_complete

    def _count_unannounced(self, project: TrackedProject, pipelines: Sequence[Pipeline]) -> None:
        """Count what no webhook spoke of; what happened while the service was away does not count."""
        chain, announced_by = self._knowledge.chain, self._clock.now() - _ANNOUNCED_SECONDS_MAX
        self.unannounced += sum(
            1
            for pipeline in pipelines
            if not self._is_first
            and is_build(pipeline, project)
            and ended_at(pipeline) is not None
            and pipeline.by_our_clock(pipeline.updated_at) < announced_by
            and build_of(chain, project.source, pipeline) is not None
        )
