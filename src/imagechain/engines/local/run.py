"""The loop of one run: ask `decide` what to start, start it, tell the chain how it ended. Decides nothing."""

import asyncio
import time
from pathlib import Path

import msgspec

from imagechain.chain import decide, plan, status
from imagechain.chain.values import (
    BuildFinished,
    BuildStarted,
    FailBuild,
    Paused,
    Resumed,
    StartBuild,
    files_input,
)
from imagechain.engines.folders import Folders, read_hint, write_hint
from imagechain.engines.local.build import Batch, build, gather
from imagechain.engines.local.logs import BuildLog, log_file, prune_logs
from imagechain.engines.local.observe import LocalChain, is_local
from imagechain.engines.local.results import summarise
from imagechain.engines.local.values import (
    Began,
    Built,
    Failed,
    Noted,
    Options,
    Output,
    Planned,
    Pulling,
    Reporter,
    UpResult,
)
from imagechain.images import Builder, BuilderError, ImageFacts, RecipeError

#: Builds that are remembered for their duration, in the order of their last build.
_SECONDS_ENTRIES_MAX = 20_000


class _Push(msgspec.Struct, frozen=True):
    """An image that was pushed."""

    id: str
    #: The digest that the registry gave it.
    digest: str


class Run:
    """One run: what is under way, and what was done."""

    def __init__(
        self,
        local: LocalChain,
        builder: Builder,
        folders: Folders,
        options: Options,
        report: Reporter,
        *,
        folder: Path,
    ) -> None:
        self._local = local
        self._chain = local.chain
        self._builder = builder
        self._folders = folders
        self._options = options
        self._report = report
        self._folder = folder
        #: Builds under way, by the chain's name of the build; pulls under way, by reference.
        self._builds: dict[str, asyncio.Task[None]] = {}
        self._pulls: dict[str, asyncio.Task[None]] = {}
        self._pull_gate = asyncio.Semaphore(options.jobs)
        #: Projects that wait for pulls: the references.
        self._aside: dict[str, set[str]] = {}
        #: Why an external image cannot be had, by reference.
        self._unavailable: dict[str, str] = {}
        self._overdue: set[str] = set()
        self._started = 0
        #: How many builds had been started when the store was read last.
        self._checked = 0
        self._built: dict[str, Built] = {}
        self._failed: dict[str, Failed] = {}
        self._superseded: set[str] = set()
        self._seconds = read_hint(folders.seconds_file, dict[str, float], {})
        self._pushes = read_hint(folders.pushed_file, dict[str, _Push], {})
        self._pushed: list[str] = []

    async def run(self) -> UpResult:
        """Build until nothing runs and nothing can be started; then tidy up."""
        interrupted: tuple[str, ...] = ()
        is_interrupted = False
        try:
            await self._announce()
            await self._loop()
            # Read once more: if a name was moved by others meanwhile, what used it is built again.
            while self._started > self._checked:
                self._checked = self._started
                await self._local.read_store()
                await self._loop()
            if self._options.push:
                await self._push_fresh()
        except asyncio.CancelledError:
            is_interrupted = True
            interrupted = tuple(sorted(name.rpartition("#")[0] for name in self._builds))
        finally:
            await self._stop()
        await self._tidy(is_interrupted=is_interrupted)
        return summarise(
            status(self._chain),
            built=self._built,
            failed=self._failed,
            interrupted=interrupted,
            is_interrupted=is_interrupted,
            pushed=self._pushed,
        )

    # --- the loop ----------------------------------------------------------------------------------------

    async def _announce(self) -> None:
        planned = plan(self._chain)
        if planned:
            self._report(Planned(projects=tuple(build.id for build in planned)))
            self._report(Noted(text=await self._builder.prepare(self._folders.cache)))

    async def _loop(self) -> None:
        while True:
            wake_at = self._start()
            tasks = {*self._builds.values(), *self._pulls.values()}
            if not tasks:
                return
            timeout = None if wake_at is None else max(0.0, wake_at - time.time())
            done, _ = await asyncio.wait(tasks, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                if not task.cancelled():
                    task.result()

    def _start(self) -> float | None:
        """Start all that may be started now; return when to look again if nothing happens before."""
        while not (self._options.fail_fast and self._failed):
            decision = decide(self._chain, time.time())
            starts = [action for action in decision.actions if isinstance(action, StartBuild)]
            for action in decision.actions:
                if isinstance(action, FailBuild):
                    self._overdue.add(action.build)
                    self._builds[action.build].cancel()
            if not starts:
                return decision.wake_at
            for action in starts:
                self._begin(action)
        return None

    def _begin(self, action: StartBuild) -> None:
        missing = self._to_be_pulled(action.project)
        if missing:
            # It waits aside, so that others may have its place, until `_pull` lets it in again.
            self._chain.apply(
                Paused(
                    project=action.project,
                    at=time.time(),
                    by="imagechain",
                    reason="its base is being fetched",
                )
            )
            self._aside[action.project] = missing
            for reference in missing:
                if reference not in self._pulls:
                    self._pulls[reference] = asyncio.create_task(self._pull(reference))
            return
        self._started += 1
        name = f"{action.project}#{self._started}"
        self._chain.apply(
            BuildStarted(project=action.project, build=name, at=time.time(), inputs=action.inputs)
        )
        self._builds[name] = asyncio.create_task(self._build(action, name))

    # --- one pull ----------------------------------------------------------------------------------------

    def _to_be_pulled(self, project: str) -> set[str]:
        """Find the external images that a build needs, that are not here, and that a registry may have."""
        return {
            str(edge.image)
            for edge in self._local.read_dependencies(project)
            if self._local.listing.find(str(edge.image)) is None
            and not self._local.is_built_here(edge)
            and str(edge.image) not in self._unavailable
        }

    async def _pull(self, reference: str) -> None:
        async with self._pull_gate:
            self._report(Pulling(image=reference))
            try:
                await self._builder.pull(reference)
                await self._local.read_store()
            except BuilderError as error:
                self._unavailable[reference] = f"{reference} cannot be pulled: {error}"
        del self._pulls[reference]
        for project, missing in list(self._aside.items()):
            missing.discard(reference)
            if not missing:
                del self._aside[project]
                self._chain.apply(Resumed(project=project, at=time.time()))

    # --- one build ---------------------------------------------------------------------------------------

    async def _build(self, action: StartBuild, name: str) -> None:
        project = action.project
        image = self._chain.graph.source(project).images[0]
        log = BuildLog(log_file(self._folders.logs, project))
        self._report(Began(id=project, image=image, reasons=action.reasons, log=str(log.file)))
        self._warn(project)
        begun = time.monotonic()
        before = self._local.facts(image)
        try:
            facts, batch = await self._make(project, name, log)
        except (BuilderError, RecipeError) as error:
            self._fail(project, name, str(error), log)
        except asyncio.CancelledError:
            if name not in self._overdue:
                raise
            self._fail(
                project, name, f"it lasted longer than {self._chain.facts.policy.build_max_seconds:g} s", log
            )
        else:
            built = Built(
                id=project,
                image=image,
                seconds=round(time.monotonic() - begun, 3),
                reasons=action.reasons,
                content_changed=before is None or before.content != facts.content,
            )
            self._take_over(project, facts)
            self._succeed(built, name, batch)
        finally:
            del self._builds[name]

    def _warn(self, project: str) -> None:
        """Tell where the builder may read the Containerfile otherwise than it was read here."""
        known = self._local.discovery.projects.get(project)
        for warning in known.warnings if known is not None and self._builder.program != "docker" else ():
            self._report(Noted(text=str(warning)))

    async def _make(self, project: str, name: str, log: BuildLog) -> tuple[ImageFacts, Batch]:
        # Read again, in a thread because it may be much: files may have changed since the run began.
        recipe = await asyncio.to_thread(self._local.read_recipe, project)
        self._local.tell(files_input(project), recipe.hash)
        pushed = {reference: push.digest for reference, push in self._pushes.items()}
        batch = await gather(
            self._local,
            self._local.discovery.projects[project],
            recipe,
            top=self._folders.top,
            pushed=pushed,
            unavailable=self._unavailable,
        )
        work = self._folder / name.rpartition("#")[2]
        facts = await build(
            self._builder,
            batch,
            work=work,
            log=log,
            tell=lambda chunk: self._report(Output(id=project, chunk=chunk)),
        )
        if self._options.push:
            await self._push(project, facts.id, work)
        return facts, batch

    def _take_over(self, project: str, facts: ImageFacts) -> None:
        """Give the names of a project to the image that was built."""
        for reference in self._chain.graph.source(project).images:
            replaced = self._local.listing.find(reference)
            if replaced is not None and replaced.id != facts.id:
                self._superseded.add(replaced.id)
        self._local.learn_built(facts, self._chain.graph.source(project).images)

    def _succeed(self, built: Built, name: str, batch: Batch) -> None:
        project = built.id
        images = self._chain.graph.source(project).images
        self._chain.apply(
            BuildFinished(
                project=project,
                build=name,
                at=time.time(),
                outcome="success",
                inputs=batch.inputs,
                outputs={reference: self._local.version(reference) for reference in images},
            )
        )
        self._seconds.pop(project, None)
        self._seconds[project] = built.seconds
        self._failed.pop(project, None)
        self._built[project] = built
        self._report(built)

    def _fail(self, project: str, name: str, message: str, log: BuildLog | None) -> None:
        self._chain.apply(
            BuildFinished(project=project, build=name, at=time.time(), outcome="failed", message=message)
        )
        has_log = log is not None and log.was_opened
        failed = Failed(
            id=project,
            log=str(log.file) if log is not None and has_log else None,
            message=message,
            log_tail=log.last_lines() if log is not None else (),
        )
        self._failed[project] = failed
        self._report(failed)

    # --- pushing -----------------------------------------------------------------------------------------

    async def _push(self, project: str, image_id: str, work: Path) -> None:
        """Push what a project publishes, unless that is known to be pushed.

        Raises:
            BuilderError: a registry did not take it.
        """
        for reference in self._chain.graph.source(project).images:
            known = self._pushes.get(reference)
            if is_local(reference) or (known is not None and known.id == image_id):
                continue
            try:
                digest = await self._builder.push(image_id, reference, work)
            except BuilderError as error:
                raise BuilderError(
                    f"{reference} was built but not pushed: {error}; the next `up --push` tries again"
                ) from error
            self._pushes[reference] = _Push(image_id, digest)
            self._pushed.append(reference)

    async def _push_fresh(self) -> None:
        """Push what needed no build, but was not pushed yet."""
        work = self._folder / "push"
        work.mkdir()
        graph = self._chain.graph
        fresh = [found.id for found in status(self._chain) if found.state == "fresh"]
        for source in map(graph.source, fresh):
            if source.kind != "project":
                continue
            facts = self._local.facts(source.images[0])
            if facts is not None:
                try:
                    await self._push(source.id, facts.id, work)
                except BuilderError as error:
                    failed = Failed(id=source.id, log=None, message=str(error))
                    self._failed[source.id] = failed
                    self._report(failed)

    # --- the end -----------------------------------------------------------------------------------------

    async def _stop(self) -> None:
        tasks = {*self._builds.values(), *self._pulls.values()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _tidy(self, *, is_interrupted: bool) -> None:
        """Remove what builds left behind, and what they replaced; keep what saves time the next time."""
        if self._started:
            await self._builder.tidy()
            if self._failed or is_interrupted:
                await self._builder.sweep(lambda work: Path(work).is_relative_to(self._folder))
            await self._remove_superseded()
            prune_logs(self._folders.logs)
            kept = dict(list(self._seconds.items())[-_SECONDS_ENTRIES_MAX:])
            write_hint(self._folders.seconds_file, kept)
        if self._pushed:
            write_hint(self._folders.pushed_file, self._pushes)
        self._local.save_cache()

    async def _remove_superseded(self) -> None:
        """Remove earlier images of this chain that have no name any more; those in use stay."""
        if self._superseded:
            listing = await self._builder.list_images()
            nameless = {image.id for image in listing.images if not image.names}
            ours = [image_id for image_id in self._superseded & nameless if self._local.is_ours(image_id)]
            await self._builder.remove(ours)
