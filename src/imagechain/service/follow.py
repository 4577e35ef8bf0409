"""Following up: ask GitLab and the registries what is, and take that in as observations.

Nothing here believes a hint. A build that succeeded is taken in only after its images were read; while a
registry does not answer, its project stays building, and is looked at again.
"""

import asyncio
from collections.abc import Collection, Iterable, Mapping, Sequence
from math import inf

import msgspec
import structlog

from imagechain.chain import BuildFinished, Chain, Observation
from imagechain.service.first_sight import observe_first_builds, observe_first_image
from imagechain.service.knowledge import Knowledge
from imagechain.service.ports import (
    Clock,
    ImageRead,
    Images,
    Pipeline,
    Pipelines,
    PipelinesFound,
    RetryableError,
    TrackedProject,
)
from imagechain.service.published import Published, Reading, base_names, labelled_inputs, versions_read
from imagechain.service.reading import (
    build_of,
    by_project,
    ended_at,
    is_build,
    is_built_by_hand,
    is_publisher,
    is_superseded,
    last_success,
    observe_failure,
    observe_pushed_image,
    observe_start,
    observe_success,
    pipeline_of,
)
from imagechain.service.unseen import Unseen
from imagechain.together import together

#: Images that are read at once, over all registries; each registry has a budget of its own besides.
_READERS_MAX = 16
#: Images whose readings are written in one transaction.
_READINGS_MAX = 500
_NO_LIST = "its pipelines cannot be listed"

_log = structlog.get_logger(__name__)


class Follower:
    """Looks at projects, and tells what is known about them.

    Attributes:
        digests: content and digest of each image, as it was read last.
        unseen: what could not be looked at, and is looked at again.
    """

    def __init__(self, knowledge: Knowledge, forge: Pipelines, images: Images, clock: Clock) -> None:
        self.digests: dict[str, tuple[str, str]] = {}
        self.unseen = Unseen()
        self._knowledge = knowledge
        self._forge = forge
        self._images = images
        self._clock = clock
        self._gate = asyncio.Semaphore(_READERS_MAX)

    # --- builds -----------------------------------------------------------------------------------------

    async def look_at_pipeline(self, project_id: int, pipeline_id: int) -> None:
        """Follow up a hint about a pipeline."""
        projects = [p for p in self._knowledge.projects_of(project_id) if p.ref is not None]
        if not projects:
            return
        pipeline = await self._forge.pipeline(project_id, pipeline_id)
        if pipeline is None:
            return
        await self.take_in_pipelines(projects, [pipeline])
        if is_publisher(pipeline) and not any(is_build(pipeline, project) for project in projects):
            await self.read_images_of([project.source for project in projects])

    async def look_at_project(self, project_id: int) -> None:
        """Follow up a hint about a project, which may have a pipeline that nobody spoke of."""
        projects = [p for p in self._knowledge.projects_of(project_id) if p.ref is not None]
        if projects:
            found = await self._forge.latest_pipelines(projects)
            if found.failed:
                raise RetryableError(_NO_LIST)
            await self.take_in_pipelines(projects, found.pipelines)

    async def look_at_all_of(self, project_id: int) -> None:
        """Follow up what stands for any number of hints about a project: its builds and its images."""
        await self.look_at_project(project_id)
        projects = self._knowledge.projects_of(project_id)
        for project in projects:
            await self._look_at_runs(project)
        await self.read_images_of([project.source for project in projects])

    async def take_in_pipelines(
        self,
        projects: Iterable[TrackedProject],
        pipelines: Collection[Pipeline],
    ) -> None:
        """Take in what pipelines say of builds; a project that was never seen is looked at first."""
        found = by_project(pipelines)
        for project in projects:
            if not self._knowledge.is_here(project):
                continue
            builds = [
                one
                for one in found.get(project.project_id, ())
                # A build goes on under its old branch when that is renamed, or is tracked no more.
                if is_build(one, project) or self._is_run(project.source, one)
            ]
            if not self.is_seen(project.source) and await self.see_first([project]):
                raise RetryableError(_NO_LIST)
            for build in _in_order(self._knowledge.chain, project.source, builds):
                await self._take_in_build(project, build)

    def _is_run(self, source: str, pipeline: Pipeline) -> bool:
        chain = self._knowledge.chain
        runs = chain.facts.states[chain.graph.number_of(source)].runs
        return any(pipeline_of(build) == pipeline.id for build in runs)

    async def complete(self, pipeline: Pipeline) -> Pipeline:
        """Ask when a pipeline ended that a list does not tell it of: a later time makes it look like news."""
        if ended_at(pipeline) is None or pipeline.finished_at is not None:
            return pipeline
        return await self._forge.pipeline(pipeline.project_id, pipeline.id) or pipeline

    def is_seen(self, source: str) -> bool:
        """Tell whether anything is known of a project's builds."""
        chain = self._knowledge.chain
        state = chain.facts.states[chain.graph.number_of(source)]
        return state.record is not None or state.is_inactive or bool(state.runs or state.ended)

    async def _take_in_build(self, project: TrackedProject, pipeline: Pipeline) -> None:
        chain = self._knowledge.chain
        if build_of(chain, project.source, pipeline) is None:
            return
        pipeline = await self.complete(pipeline)
        build = build_of(chain, project.source, pipeline)
        if build is None:
            return
        intent = self._knowledge.intent_of(project.source, pipeline)
        start = observe_start(pipeline, project, build, intent, self._clock.now())
        if ended_at(pipeline) is None:
            await self._knowledge.take_in([start], of=project)
            return
        await self._knowledge.take_in([start], of=project)
        if pipeline.status not in {"success", "manual"}:
            failure = observe_failure(pipeline, project, build, self._clock.now())
            if await self._take_in_newer(project, pipeline):
                failure = msgspec.structs.replace(failure, outcome="superseded")
            await self._knowledge.take_in([failure], of=project)
            return
        ended = await self._read_success(project, pipeline, build)
        if ended is not None:
            self.unseen.sources.pop(project.source, None)
            await self._knowledge.take_in(ended, of=project)

    async def _take_in_newer(self, project: TrackedProject, cancelled: Pipeline) -> bool:
        """Take in what GitLab cancelled a pipeline for, if it did; tell whether it did."""
        if cancelled.status != "canceled":
            return False
        newer = [
            one for one in await self._forge.pipelines_after(project, cancelled.id) if is_build(one, project)
        ]
        if not is_superseded(cancelled, newer):
            return False
        await self.take_in_pipelines([project], newer)
        return True

    async def _read_success(
        self, project: TrackedProject, pipeline: Pipeline, build: str
    ) -> Sequence[Observation] | None:
        """Read the images of a build that succeeded; None: some could not be read, so it is not over yet."""
        source = project.source
        own = await self.read_published(source)
        if own is None:
            return None
        knowledge = self._knowledge
        if pipeline.status == "manual" and not is_built_by_hand(knowledge.chain, own):
            return [observe_failure(pipeline, project, build, self._clock.now())]
        bases = await self._read(base_names(knowledge.chain, source))
        if not await self._read_moved_inputs(source, own, bases):
            return None
        return observe_success(knowledge.chain, pipeline, project, build, own=own, bases=bases)

    async def read_published(self, source: str) -> Published | None:
        """Read the images of a source; None: some could not be read, and it is to be looked at again."""
        own = await self._read(self._knowledge.published.get(source, ()))
        if own.unchecked:
            self.unseen.miss_images(source, own, self._clock.now())
            return None
        return own

    async def _read_moved_inputs(self, source: str, own: Published, bases: Published) -> bool:
        """Read again the inputs of which an image tells another version than is known; False: in vain."""
        graph, facts = self._knowledge.chain.graph, self._knowledge.chain.facts
        label = labelled_inputs(self._knowledge.chain, own, bases) or {}
        differing = [
            name
            for name, version in label.items()
            if (key := graph.input_number.get(name)) is not None and facts.versions[key] != version
        ]
        if not differing:
            return True
        read = await self._read(differing)
        await self._knowledge.take_in(versions_read(read.readings, read.at))
        if read.unchecked:
            self.unseen.miss_images(source, read, self._clock.now())
        return not read.unchecked

    # --- first sight ------------------------------------------------------------------------------------

    async def see_first(self, projects: Sequence[TrackedProject]) -> frozenset[int]:
        """Look at projects of which nothing is known: adopt what they are.

        Gives the numbers of those on which GitLab failed, of which nothing is known still.
        """
        present = [project for project in projects if project.ref is not None]
        pipelines = await self._forge.latest_pipelines(present) if present else PipelinesFound(())
        self.unseen.miss(pipelines.failed, _NO_LIST)
        projects = [project for project in projects if project.project_id not in pipelines.failed]
        found = by_project(pipelines.pipelines)
        builds = {
            project.source: [one for one in found.get(project.project_id, ()) if is_build(one, project)]
            for project in projects
        }
        names = {name for p in projects for name in self._knowledge.published.get(p.source, ())}
        for project in projects:
            names.update(self._inputs_of(project.source))
        with self._knowledge.held():
            await self._adopt(projects, builds, await self.read_images(names))
        return pipelines.failed

    async def _adopt(
        self, projects: Sequence[TrackedProject], builds: Mapping[str, list[Pipeline]], read: Published
    ) -> None:
        chain = self._knowledge.chain
        found: list[Observation] = []
        ready = []
        for project in projects:
            if project.source not in self._knowledge.tracked or self.is_seen(project.source):
                continue
            own = _part(read, self._knowledge.published.get(project.source, ()))
            if own.unchecked:
                self.unseen.miss_images(project.source, own, self._clock.now())
                continue
            bases = _part(read, base_names(chain, project.source))
            found += observe_first_image(chain, project, builds[project.source], own=own, bases=bases)
            ready.append(project)
        await self._knowledge.take_in(found)
        # Only now it is known when all parents were built, and so what a failed build was made from.
        await self._knowledge.take_in(
            observation
            for project in ready
            if project.source in self._knowledge.tracked
            for observation in observe_first_builds(chain, project, builds[project.source], read.at)
        )
        for project in ready:
            self.unseen.sources.pop(project.source, None)

    def _inputs_of(self, source: str) -> list[str]:
        graph = self._knowledge.chain.graph
        return [name for name in graph.inputs_of(source) if self._is_image(name)]

    def _is_image(self, name: str) -> bool:
        graph = self._knowledge.chain.graph
        publisher = graph.publisher[graph.input_number[name]]
        return publisher >= 0 and (
            graph.sources[publisher].kind == "external" or name != graph.ids[publisher]
        )

    # --- builds that nobody speaks of -------------------------------------------------------------------

    async def look_at_running(self, seen_pipelines: Collection[tuple[int, int]]) -> None:
        """Look at the builds that are said to run, but for those that were just looked at."""
        chain = self._knowledge.chain
        for _, number in list(chain.agenda.running.ordered()):
            project = self._knowledge.tracked.get(chain.graph.ids[number])
            if project is None:
                continue
            for build in list(chain.facts.states[number].runs):
                pipeline_id = int(build.partition(".")[0])
                if (project.project_id, pipeline_id) not in seen_pipelines:
                    look = self._look_at_run(project, build, pipeline_id)
                    await self.unseen.patiently(project.project_id, look)

    async def _look_at_run(self, project: TrackedProject, build: str, pipeline_id: int) -> None:
        pipeline = await self._forge.pipeline(project.project_id, pipeline_id)
        if pipeline is not None:
            await self.take_in_pipelines([project], [pipeline])
            return
        message = f"its pipeline {pipeline_id} was deleted"
        await self._knowledge.take_in(
            [
                BuildFinished(
                    project=project.source,
                    build=build,
                    at=self._clock.now(),
                    outcome="failed",
                    message=message,
                )
            ],
            of=project,
        )

    async def look_again(self) -> None:
        """Look again at the projects on which GitLab failed, and at those whose images could not be read."""
        await together(*map(self._look_again_at, sorted(self.unseen.projects)))
        now = self._clock.now()
        for source, again_at in sorted(self.unseen.sources.items()):
            project = self._knowledge.tracked.get(source)
            if project is not None and again_at > now:
                continue
            if project is not None:
                await self.unseen.patiently(project.project_id, self._read_again(project))
            if self.unseen.sources.get(source) == again_at:
                del self.unseen.sources[source]

    async def _read_again(self, project: TrackedProject) -> None:
        if self.is_seen(project.source):
            await self._look_at_runs(project)
        else:
            await self.see_first([project])

    async def _look_again_at(self, project_id: int) -> None:
        if await self.unseen.patiently(project_id, self.look_at_all_of(project_id)):
            self.unseen.projects.pop(project_id, None)

    async def _look_at_runs(self, project: TrackedProject) -> None:
        chain = self._knowledge.chain
        for build in list(chain.facts.states[chain.graph.number_of(project.source)].runs):
            await self._look_at_run(project, build, int(build.partition(".")[0]))

    # --- images -----------------------------------------------------------------------------------------

    async def read_all_images(self) -> None:
        """Read the images of all sources."""
        await self.read_images_of(list(self._knowledge.published))

    async def read_images_of(self, sources: Collection[str]) -> None:
        """Read the images of sources; one that no build of a branch made tells what it was built from."""
        knowledge = self._knowledge
        graph, facts = knowledge.chain.graph, knowledge.chain.facts
        before = dict(zip(graph.input_names, facts.versions, strict=True))
        read = await self.read_images(
            name for source in sources for name in knowledge.published.get(source, ())
        )
        found = []
        for source in sources:
            if source not in knowledge.tracked:
                continue
            own = _part(read, knowledge.published.get(source, ()))
            if any(
                isinstance(reading, ImageRead) and reading.content != before.get(name)
                for name, reading in own.readings.items()
            ):
                bases = _part(read, base_names(knowledge.chain, source))
                found += observe_pushed_image(knowledge.chain, source, own=own, bases=bases)
        await knowledge.take_in(found)

    async def read_images(self, names: Iterable[str]) -> Published:
        """Read what images are now, and take in what moved."""
        ordered = sorted(set(names))
        readings: dict[str, Reading] = {}
        at = self._clock.now()
        for start in range(0, len(ordered), _READINGS_MAX):
            part = await self._read(ordered[start : start + _READINGS_MAX])
            readings |= part.readings
            await self._knowledge.take_in(versions_read(part.readings, part.at))
        return Published(at, readings)

    async def _read(self, names: Iterable[str]) -> Published:
        wanted = list(names)
        at = self._clock.now()

        async def read(name: str) -> Reading:
            async with self._gate:
                return await self._images.read(name)

        readings = dict(zip(wanted, await together(*map(read, wanted)), strict=True))
        for name, reading in readings.items():
            if isinstance(reading, ImageRead):
                self.digests[name] = reading.content, reading.digest
        self.unseen.note(readings)
        return Published(at, readings)


def _part(read: Published, names: Iterable[str]) -> Published:
    return Published(read.at, {name: read.readings[name] for name in names if name in read.readings})


def _in_order(chain: Chain, source: str, builds: Iterable[Pipeline]) -> list[Pipeline]:
    """Put the builds of a project in the order of their ends; successes that others hide are left out."""
    ordered = sorted(builds, key=lambda one: (ended_at(one) or inf, one.id))
    last = last_success(ordered)
    runs = chain.facts.states[chain.graph.number_of(source)].runs
    running = {pipeline_of(build) for build in runs}
    return [one for one in ordered if one.status != "success" or one is last or one.id in running]
