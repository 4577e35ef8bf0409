"""The simulated GitLab as tests and the demo use it: build a world, let things happen, see what was asked.

```python
gitlab = SimulatedGitLab(clock=lambda: 0.0, seed=1)
bot = gitlab.add_user("bot")
token = gitlab.add_token(bot, scopes=("api",))
gitlab.add_group("images", members={bot: Role.OWNER})
gitlab.add_project("images/base", files={".gitlab-ci.yml": "build: {script: make}"})
gitlab.push("images/base", {"Containerfile": "FROM debian"})
pipeline = gitlab.latest_pipeline("images/base")
gitlab.pipelines.finish(pipeline, "success")
await gitlab.hooks.deliver()
```

Clients reach it over HTTP: in this process by `transport()`, by a real socket with `serving()`. It is used by
one thread at a time: a script must not change it while a request is being answered.
"""

import asyncio
import base64
import inspect
from collections.abc import Awaitable, Callable, Mapping

import httpx2
import msgspec

from imagechain.testing.app import GitLabApp, SimulatedTransport
from imagechain.testing.collaboration import Collaboration
from imagechain.testing.hooks import EVENT_SETTINGS, Hooks
from imagechain.testing.parts import Parts
from imagechain.testing.pipelines import Pipelines
from imagechain.testing.repositories import Repositories
from imagechain.testing.schedules import Schedules
from imagechain.testing.state import InstanceSettings, State
from imagechain.testing.values import (
    Commit,
    File,
    Group,
    Hook,
    Job,
    Pipeline,
    Project,
    RegistryRepository,
    RegistryTag,
    Role,
    SimulationError,
    Status,
    Token,
    User,
    Visibility,
)

#: How soon a job that was queued while others run is looked for.
LOOK_FOR_JOBS_SECONDS = 0.2


class JobRun(msgspec.Struct, frozen=True, kw_only=True):
    """A job that was started, with what a runner needs to know of it."""

    project: Project
    pipeline: Pipeline
    job: Job
    commit: Commit


#: Decides what becomes of a job; None leaves it running.
JobCallback = Callable[[JobRun], Status | Awaitable[Status | None] | None]


class SimulatedGitLab:
    """A GitLab instance in memory."""

    def __init__(
        self, *, clock: Callable[[], float], seed: int, settings: InstanceSettings | None = None
    ) -> None:
        self.state = State(clock, seed, settings)
        self.hooks = Hooks(self.state)
        self.pipelines = Pipelines(self.state, self.hooks)
        self.repositories = Repositories(self.state, self.hooks, self.pipelines)
        self.schedules = Schedules(self.state, self.pipelines)
        self.collaboration = Collaboration(self.state, self.hooks, self.pipelines, self.repositories)
        #: The administrator, in whose name scripts act unless they name another user.
        self.root = self.add_user("root", name="Administrator", admin=True)
        self.app = GitLabApp(
            Parts(
                state=self.state,
                hooks=self.hooks,
                pipelines=self.pipelines,
                repositories=self.repositories,
                schedules=self.schedules,
                collaboration=self.collaboration,
            )
        )
        self._on_job: JobCallback | None = None

    @property
    def settings(self) -> InstanceSettings:
        """How the instance is set up; may be changed at any time."""
        return self.state.settings

    def transport(self) -> httpx2.AsyncBaseTransport:
        """Make a transport for clients in this process."""
        return SimulatedTransport(self.app)

    # --- people

    def add_user(self, username: str, *, name: str = "", admin: bool = False, bot: bool = False) -> User:
        """Add a user."""
        user = User(
            id=self.state.next_id("user"), username=username, name=name or username, admin=admin, bot=bot
        )
        self.state.users[user.id] = user
        return user

    def add_token(
        self,
        user: User,
        *,
        scopes: tuple[str, ...] = ("api",),
        value: str | None = None,
        expires_at: float | None = None,
    ) -> Token:
        """Give a user an access token."""
        token = Token(
            id=self.state.next_id("token"),
            user=user.id,
            value=value or f"glpat-{self.state.random.getrandbits(80):020x}",
            name=f"token of {user.username}",
            scopes=scopes,
            created_at=self.state.clock(),
            expires_at=expires_at,
        )
        self.state.tokens[token.value] = token
        return token

    # --- groups and projects

    def add_group(
        self,
        full_path: str,
        *,
        members: Mapping[User, Role] | None = None,
        visibility: Visibility = "private",
    ) -> Group:
        """Add a group, with the groups above it that are missing; or add members to one."""
        parent: Group | None = None
        path = ""
        for name in full_path.split("/"):
            path = f"{path}/{name}" if path else name
            group = self.state.find_group(path)
            if group is None:
                group = Group(
                    id=self.state.next_id("namespace"),
                    path=name,
                    name=name.capitalize(),
                    full_path=path,
                    parent=parent.id if parent is not None else None,
                    visibility=visibility,
                )
                self.state.index_group(group)
            parent = group
        if parent is None:
            raise SimulationError("a group needs a path")
        parent.members.update({user.id: role for user, role in (members or {}).items()})
        return parent

    def add_project(
        self,
        full_path: str,
        *,
        files: Mapping[str, str | bytes | File] | None = None,
        branch: str = "main",
        visibility: Visibility = "private",
        members: Mapping[User, Role] | None = None,
    ) -> Project:
        """Add a project with one commit, as if imported: no pipeline, and no hook but that of the group."""
        group_path, _, path = full_path.rpartition("/")
        group = self.state.find_group(group_path) or self.add_group(group_path)
        now = self.state.clock()
        project = Project(
            id=self.state.next_id("project"),
            path=path,
            name=path,
            full_path=full_path,
            group=group.id,
            visibility=visibility,
            created_at=now,
            last_activity_at=now,
            pipeline_variables_role=self.settings.pipeline_variables_role,
            members={user.id: role for user, role in (members or {}).items()},
        )
        self.state.index_project(project)
        if files:
            self.repositories.import_files(project, files, user=self.root, branch=branch)
        self.hooks.emit_project(project, "project_create")
        return project

    def project(self, full_path: str) -> Project:
        """Find a project by its path.

        Raises:
            SimulationError: there is none.
        """
        return self.state.project(full_path)

    def move_project(self, full_path: str, new_path: str) -> None:
        """Rename or transfer a project: its old path answers with 301 from then on."""
        project = self.project(full_path)
        group_path, _, project.path = new_path.rpartition("/")
        project.group = (self.state.find_group(group_path) or self.add_group(group_path)).id
        self.state.forget_project(project)
        project.full_path = new_path
        self.state.index_project(project)
        self.state.moved[full_path] = project.id

    def delete_project(self, full_path: str) -> None:
        """Delete a project with its hooks."""
        project = self.project(full_path)
        self.hooks.emit_project(project, "project_destroy")
        for hook in self.state.project_hooks(project):
            self.state.remove_hook(hook)
        self.pipelines.forget_jobs(project)
        self.state.forget_project(project)
        del self.state.projects[project.id]

    def push(
        self,
        full_path: str,
        files: Mapping[str, str | bytes | File | None],
        *,
        branch: str | None = None,
        message: str = "Change",
        user: User | None = None,
    ) -> Commit:
        """Commit files (None removes one) and push: hooks and a pipeline follow."""
        return self.repositories.push(
            self.project(full_path), files, user=user or self.root, branch=branch, message=message
        )

    def latest_pipeline(self, full_path: str) -> Pipeline:
        """Find the newest pipeline of a project.

        Raises:
            SimulationError: it has none.
        """
        pipelines = self.project(full_path).pipelines
        if not pipelines:
            raise SimulationError(f"{full_path} has no pipeline yet")
        return pipelines[max(pipelines)]

    def set_image(
        self, full_path: str, tag: str, digest: str, *, name: str = "", revision: str = "", size: int = 0
    ) -> RegistryTag:
        """Let the registry API show an image of a project: at its own path, or at `name` below it."""
        project = self.project(full_path)
        repository = next((found for found in project.registry.values() if found.name == name), None)
        if repository is None:
            repository = RegistryRepository(
                id=self.state.next_id("registry repository"),
                project=project.id,
                name=name,
                created_at=self.state.clock(),
            )
            project.registry[repository.id] = repository
        repository.tags[tag] = RegistryTag(
            name=tag,
            digest=digest,
            revision=revision or digest.partition(":")[2],
            created_at=self.state.clock(),
            total_size=size,
        )
        return repository.tags[tag]

    # --- hooks

    def add_hook(
        self,
        owner: Project | Group | None,
        url: str,
        *,
        events: tuple[str, ...] = tuple(EVENT_SETTINGS.values()),
        token: str = "",
        signing_token: str = "",
    ) -> Hook:
        """Add a hook to a project or a group; without an owner, a system hook."""
        hook = Hook(
            id=self.state.next_id("hook"),
            url=url,
            created_at=self.state.clock(),
            project=owner.id if isinstance(owner, Project) else None,
            group=owner.id if isinstance(owner, Group) else None,
            events=frozenset(events),
            token=token,
            signing_token=signing_token,
        )
        self.state.add_hook(hook)
        return hook

    def new_signing_token(self) -> str:
        """Draw a token that signs hooks."""
        return "whsec_" + base64.b64encode(self.state.random.randbytes(32)).decode()

    # --- running jobs

    def on_job(self, callback: JobCallback) -> None:
        """Let a callback decide what becomes of each job, when `run_jobs` is awaited."""
        self._on_job = callback

    async def run_jobs(self, *, parallel_max: int = 1) -> int:
        """Run the jobs that wait, and those that follow from them, until none waits; tell how many ran."""
        callback = self._on_job
        if callback is None:
            raise SimulationError("nobody runs jobs: name a callback with on_job()")
        ran = 0
        running: set[asyncio.Task[None]] = set()
        while self.pipelines.pending or running:
            while self.pipelines.pending and len(running) < parallel_max:
                job = next(iter(self.pipelines.pending.values()))
                self.pipelines.start_job(job)
                running.add(asyncio.create_task(self._run_job(job, callback)))
                ran += 1
            # A job that is queued while others run is seen when one of these ends, or soon.
            done, running = await asyncio.wait(
                running, return_when=asyncio.FIRST_COMPLETED, timeout=LOOK_FOR_JOBS_SECONDS
            )
            for task in done:
                task.result()
        return ran

    async def live(self, *, parallel_max: int = 1, poll_seconds: float = 0.05) -> None:
        """Let time pass, until cancelled: deliver hooks, run jobs, start schedules that are due."""

        async def repeat(step: Callable[[], Awaitable[object]]) -> None:
            while True:
                await step()
                await asyncio.sleep(poll_seconds)

        async def run_due() -> object:
            return self.schedules.run_due()

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(repeat(self.hooks.deliver))
            tasks.create_task(repeat(run_due))
            if self._on_job is not None:
                tasks.create_task(repeat(lambda: self.run_jobs(parallel_max=parallel_max)))

    async def _run_job(self, job: Job, callback: JobCallback) -> None:
        project = self.state.projects[job.project]
        pipeline = self.state.pipeline_index[job.pipeline]
        run = JobRun(project=project, pipeline=pipeline, job=job, commit=project.commits[pipeline.sha])
        answer = callback(run)
        outcome = await answer if inspect.isawaitable(answer) else answer
        # It may have been cancelled meanwhile.
        if outcome is not None and job.status == "running":
            self.pipelines.finish_job(job, outcome)
