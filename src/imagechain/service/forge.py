"""GitLab, as the loop asks for it: an adapter of the client, of the scan and of their errors."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime

import msgspec

from imagechain.config import GitLabSettings, Settings
from imagechain.discovery.group import discover_group
from imagechain.discovery.group_files import Branch, BranchFiles
from imagechain.gitlab import errors, rest, values
from imagechain.gitlab.client import Client
from imagechain.gitlab.files import Checkout
from imagechain.gitlab.hook_secrets import HookOwner
from imagechain.gitlab.pipelines import read_pipelines
from imagechain.images.trial import TRIAL_VARIABLE
from imagechain.refs import Platform
from imagechain.service.ports import (
    Cache,
    Hook,
    HookSettings,
    NotNowError,
    Pipeline,
    PipelinesFound,
    RefusedError,
    RetryableError,
    Scan,
    TrackedProject,
    TrialBy,
)
from imagechain.service.starts import LOOK_SECONDS_MAX, REQUEST_SECONDS_MAX, TOLD

#: Pipelines of one branch that are looked through for those newer than one.
_NEWER_ROWS_MAX = 50
#: Under which the store keeps what was read of each source, and the list of these sources.
_CACHE_KIND = "scan"
_CACHE_INDEX = ""
_TOLD_INPUTS = frozenset(name.lower() for name in TOLD)


class GitLabForge:
    """Asks GitLab, and tells its errors apart as the loop needs them."""

    def __init__(self, client: Client, settings: Settings, cache: Cache, platform: Platform) -> None:
        """Prepare; nothing is asked yet.

        Args:
            client: the GitLab of `[gitlab]`.
            settings: which groups and branches.
            cache: where it is kept what was read of files.
            platform: what is built for.
        """
        self._client = client
        self._settings = settings
        self._kept = cache
        self._platform = platform
        self._cache: Mapping[str, BranchFiles] | None = None
        self._branches: Mapping[str, Branch] = {}
        #: Host of GitLab's own registry; None: not known yet, or there is none.
        self.registry_host: str | None = None
        #: Projects that allow no variables for their pipelines.
        self._without_variables: set[int] = set()

    async def scan(self) -> Scan:
        """Read the groups; unchanged files are not read again, not even after a restart.

        Raises:
            RefusedError: there were projects, and there is none any more: hardly have all of them left.
        """
        cache = await self._load_cache() if self._cache is None else self._cache
        async with loop_errors():
            found = await discover_group(self._client, self._settings, cache=cache, platform=self._platform)
        if cache and not found.branches:
            raise RefusedError(f"{none_left(self._settings.gitlab)}; what is known is kept")
        await self._keep_cache(cache, found.cache)
        self._cache = found.cache
        self.registry_host = found.registry
        self._branches = {branch.source: branch for branch in found.branches}
        return Scan(
            projects=tuple(
                TrackedProject(
                    source=branch.source,
                    project_id=branch.project,
                    ref=branch.files.branch,
                    inputs=_TOLD_INPUTS & branch.files.declared_inputs,
                    trial=_trial(branch.files),
                )
                for branch in found.branches
            ),
            sources=found.discovery.sources,
            dependencies=found.discovery.dependencies,
            problems=found.discovery.problems,
        )

    # --- pipelines --------------------------------------------------------------------------------------

    async def latest_pipelines(self, projects: Sequence[TrackedProject]) -> PipelinesFound:
        """Give the latest pipelines of tracked branches, in batches."""
        return await self._read_pipelines(projects, None)

    async def pipelines_since(
        self, projects: Sequence[TrackedProject], updated_after: float
    ) -> PipelinesFound:
        """Give the pipelines of tracked branches that were updated after a time of GitLab's, in batches."""
        if updated_after > self._client.now_there:
            # Its clock was put back: what happened since has earlier times.
            return await self.latest_pipelines(projects)
        return await self._read_pipelines(projects, datetime.fromtimestamp(max(updated_after, 0.0), UTC))

    async def _read_pipelines(
        self, projects: Sequence[TrackedProject], updated_after: datetime | None
    ) -> PipelinesFound:
        async with loop_errors():
            checkouts = self._checkouts(projects)
            found = await read_pipelines(self._client, checkouts, updated_after=updated_after)
            return PipelinesFound(self._pipelines(found.pipelines), found.failed)

    def _pipelines(self, found: Iterable[values.Pipeline]) -> list[Pipeline]:
        return [loop_pipeline(one, self._client) for one in found]

    async def pipeline(self, project_id: int, pipeline_id: int) -> Pipeline | None:
        """Give one pipeline; None: there is none."""
        async with _within(LOOK_SECONDS_MAX), loop_errors():
            try:
                found = await self._client.send(rest.pipeline(project_id, pipeline_id))
                return loop_pipeline(found, self._client)
            except errors.NotFoundError:
                return None

    async def pipelines_after(self, project: TrackedProject, pipeline_id: int) -> Sequence[Pipeline]:
        """Give the pipelines of a branch that are newer than one, as far as there can be any."""
        call = rest.pipelines(project.project_id, ref=project.ref, rows=_NEWER_ROWS_MAX)
        async with _within(LOOK_SECONDS_MAX), loop_errors():
            found = await self._client.send(call)
        return self._pipelines(one for one in found if one.id > pipeline_id)

    async def create_pipeline(self, project: TrackedProject, told: Mapping[str, str]) -> Pipeline:
        """Start a pipeline, and tell it what can be told there."""
        if (wait := self._client.closed_seconds) > 0:
            # Waiting for it here would look like a request that got no answer.
            raise NotNowError(f"GitLab wants no requests for {wait:.0f} s", wait)
        async with _within(REQUEST_SECONDS_MAX), loop_errors():
            return loop_pipeline(await self._create(project, told), self._client)

    async def _create(self, project: TrackedProject, told: Mapping[str, str]) -> values.Pipeline:
        """Tell it by inputs where it declares them, else by variables where it allows them, else nothing.

        A refusal starts nothing, so the next way may be tried at once.
        """
        number, ref = project.project_id, project.ref or ""
        inputs = {name.lower(): text for name, text in told.items() if name.lower() in project.inputs}
        if inputs:
            try:
                return await self._client.send(rest.create_pipeline(number, ref, inputs=inputs))
            except errors.PipelineRefusedError as error:
                # The file changed since it was scanned, or limits them to a type or a pattern.
                if error.why != "inputs":
                    raise
        if number not in self._without_variables:
            try:
                return await self._client.send(rest.create_pipeline(number, ref, variables=told))
            except errors.PipelineRefusedError as error:
                if error.why != "variables":
                    raise
                self._without_variables.add(number)
        return await self._client.send(rest.create_pipeline(number, ref))

    async def maintained_projects(self) -> Sequence[int]:
        """List the projects whose webhooks we may change, tracked or not, by number."""
        async with loop_errors():
            return [project.id for project in await self._client.all(rest.member_projects())]

    # --- hooks ------------------------------------------------------------------------------------------

    async def hooks(self, owner: HookOwner) -> Sequence[Hook]:
        """List the webhooks of a project or group."""
        async with loop_errors():
            return [_hook(hook) for hook in await self._client.all(rest.hooks(_owner(owner)))]

    async def create_hook(self, owner: HookOwner, settings: HookSettings) -> None:
        """Add a webhook."""
        async with loop_errors():
            await self._client.send(rest.create_hook(_owner(owner), _form(settings)))

    async def update_hook(self, owner: HookOwner, hook_id: int, settings: HookSettings) -> None:
        """Set all of a webhook again."""
        async with loop_errors():
            await self._client.send(rest.update_hook(_owner(owner), hook_id, _form(settings)))

    async def delete_hook(self, owner: HookOwner, hook_id: int) -> None:
        """Remove a webhook."""
        async with loop_errors():
            try:
                await self._client.send(rest.delete_hook(_owner(owner), hook_id))
            except errors.NotFoundError:
                return

    async def test_hook(self, project_id: int, hook_id: int, event: rest.HookEvent) -> None:
        """Let GitLab send a test event."""
        async with loop_errors():
            await self._client.send(rest.test_hook(project_id, hook_id, event))

    # --- what was read of files -------------------------------------------------------------------------

    async def _load_cache(self) -> Mapping[str, BranchFiles]:
        index = (await self._kept.cached(_CACHE_KIND, [_CACHE_INDEX])).get(_CACHE_INDEX)
        if index is None:
            return {}
        try:
            kept = await self._kept.cached(_CACHE_KIND, msgspec.msgpack.decode(index, type=list[str]))
            return {name: _decoder.decode(data) for name, data in kept.items()}
        except msgspec.DecodeError:
            # Of another version: it is read again.
            return {}

    async def _keep_cache(self, before: Mapping[str, BranchFiles], now: Mapping[str, BranchFiles]) -> None:
        changed = {
            name: msgspec.msgpack.encode(files) for name, files in now.items() if before.get(name) != files
        }
        if before.keys() != now.keys():
            changed[_CACHE_INDEX] = msgspec.msgpack.encode(sorted(now))
        if changed:
            await self._kept.cache(_CACHE_KIND, changed)

    def _checkouts(self, projects: Iterable[TrackedProject]) -> list[Checkout]:
        return [
            Checkout(
                project=branch.project,
                path=branch.path,
                group=branch.group,
                branch=project.ref,
                # Pipelines are listed by their branch, also those of the default one.
                is_default=False,
            )
            for project in projects
            if project.ref is not None and (branch := self._branches.get(project.source)) is not None
        ]


_decoder = msgspec.msgpack.Decoder(BranchFiles)


def none_left(settings: GitLabSettings) -> str:
    """Say that the groups hold no project, and what to look at."""
    return (
        f"GitLab shows no project at all in {', '.join(settings.groups)}; check gitlab.groups, "
        "gitlab.include and gitlab.exclude, and that the token's user has the role Reporter in these groups"
    )


@asynccontextmanager
async def loop_errors() -> AsyncIterator[None]:
    """Turn the client's errors into those that the loop tells apart."""
    try:
        yield
    except (errors.RateLimitedError, errors.DownError) as error:
        raise NotNowError(str(error), error.retry_after_seconds) from error
    except errors.TokenError as error:
        # Nothing was done, and it is not about this project: all waits until the token is mended.
        raise NotNowError(str(error)) from error
    except errors.RetryableError as error:
        raise RetryableError(str(error), error.retry_after_seconds) from error
    except errors.PermanentError as error:
        raise RefusedError(str(error)) from error
    except errors.ContractError as error:
        raise RetryableError(str(error)) from error


@asynccontextmanager
async def _within(seconds: float) -> AsyncIterator[None]:
    """Give up after so long, all attempts together."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise RetryableError(f"GitLab did not answer within {seconds:.0f} s") from error


def _trial(files: BranchFiles) -> TrialBy:
    if TRIAL_VARIABLE.lower() in files.declared_inputs:
        return "input"
    return "variable" if files.speaks_of(TRIAL_VARIABLE) else "none"


def loop_pipeline(found: values.Pipeline, client: Client) -> Pipeline:
    """Give a pipeline as the loop wants to see it, as a client read it just now."""
    return Pipeline(
        id=found.id,
        project_id=found.project_id,
        ref=found.ref,
        sha=found.sha,
        source=found.source,
        status=found.status,
        created_at=found.created_at.timestamp(),
        updated_at=found.updated_at.timestamp(),
        finished_at=found.finished_at.timestamp() if found.finished_at is not None else None,
        is_tag=found.tag,
        url=found.web_url,
        yaml_errors=found.yaml_errors or "",
        ahead_seconds=client.clock_ahead_seconds or 0.0,
    )


def _hook(found: values.Hook) -> Hook:
    return Hook(
        id=found.id,
        url=found.url,
        events=frozenset(event for event in rest.HOOK_EVENTS if getattr(found, event)),
        alert_status=found.alert_status,
        has_token=found.token_present is not False,
        has_signing_token=found.signing_token_present,
        verifies_tls=found.enable_ssl_verification,
    )


def _owner(owner: HookOwner) -> rest.Owner:
    return rest.Owner("projects" if isinstance(owner, int) else "groups", owner)


def _form(settings: HookSettings) -> rest.HookForm:
    return rest.HookForm(
        url=settings.url,
        events=settings.events,
        token=settings.token,
        signing_token=settings.signing_token,
        enable_ssl_verification=settings.verifies_tls,
    )
