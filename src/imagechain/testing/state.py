"""The state of a simulated instance, and the finding of things in it. No part of it knows HTTP."""

import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator
from random import Random

import msgspec

from imagechain.testing.faults import Faults
from imagechain.testing.values import Group, Hook, Job, Pipeline, Project, Role, SimulationError, Token, User


class InstanceSettings(msgspec.Struct, kw_only=True):
    """How the instance is set up. The defaults are those of a GitLab.com without rate limits."""

    #: Below 19.0 hooks are not signed, and the hook API knows no signing tokens.
    version: str = "19.0.0"
    enterprise: bool = True
    url: str = "http://gitlab.example.com"
    registry_host: str = "registry.example.com"
    #: Off by default on self-managed instances.
    auto_disabling_web_hooks: bool = True
    silent_mode: bool = False
    #: A push of more branches or tags fires no hook at all.
    push_event_hooks_limit: int = 3
    hooks_per_project_max: int = 100
    hooks_per_group_max: int = 50
    hook_timeout_seconds: float = 10.0
    hook_body_bytes_max: int = 25 * 1024 * 1024
    #: For each top-level group; calls above it are dropped. None: no limit.
    hook_calls_per_minute_max: int | None = None
    #: For each user, answered by 429 as text. None: no limit.
    requests_per_minute_max: int | None = None
    pipelines_per_minute_max: int | None = None
    notes_per_minute_max: int | None = None
    hook_tests_per_minute_max: int = 5
    #: For each project and path of raw files.
    raw_requests_per_minute_max: int | None = None
    #: Above it, answers have no `x-total`, `x-total-pages` and `rel="last"`.
    totals_rows_max: int = 10_000
    schedules_per_project_max: int = 50
    #: New projects get it: `no_one_allowed` on GitLab.com.
    pipeline_variables_role: str = "developer"
    #: Files that one CI configuration may include.
    includes_max: int = 150

    @property
    def major(self) -> int:
        """The first number of the version."""
        return int(self.version.partition(".")[0])

    @property
    def signs_hooks(self) -> bool:
        """Whether hooks can be signed."""
        return self.major >= 19


class Runner(msgspec.Struct, frozen=True, kw_only=True):
    """A registered runner."""

    id: int
    token: str
    tags: tuple[str, ...]
    run_untagged: bool


class RateWindow:
    """Counts events of the last minute by key."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._times: dict[object, deque[float]] = {}

    def take(self, key: object, per_minute_max: int | None) -> int | None:
        """Count an event; None if it is one too many, else how many there were with it."""
        now = self._clock()
        times = self._times.setdefault(key, deque())
        while times and times[0] <= now - 60:
            times.popleft()
        if per_minute_max is not None and len(times) >= per_minute_max:
            return None
        if per_minute_max is not None:
            times.append(now)
        return len(times)


class State:
    """Everything the instance holds."""

    def __init__(self, clock: Callable[[], float], seed: int, settings: InstanceSettings | None) -> None:
        self.clock = clock
        self.seed = seed
        self.settings = settings or InstanceSettings()
        self.faults = Faults()
        #: For ids that GitLab draws at random.
        self.random = Random(seed)  # noqa: S311 - repeatable on purpose
        #: For faults alone, so that turning one on does not change the ids.
        self.fault_random = Random(f"faults {seed}")  # noqa: S311
        self.rates = RateWindow(clock)
        self.users: dict[int, User] = {}
        self.tokens: dict[str, Token] = {}
        self.groups: dict[int, Group] = {}
        self.projects: dict[int, Project] = {}
        self.hooks: dict[int, Hook] = {}
        #: Old paths of projects that were moved.
        self.moved: dict[str, int] = {}
        self.runners: dict[str, Runner] = {}
        self.templates: dict[str, bytes] = {}
        self.job_index: dict[int, Job] = {}
        self.pipeline_index: dict[int, Pipeline] = {}
        self._groups_by_path: dict[str, int] = {}
        self._projects_by_path: dict[str, int] = {}
        self._hooks_of: dict[tuple[str, int], list[Hook]] = {}
        self._ids: Counter[str] = Counter()

    def next_id(self, kind: str) -> int:
        """Give out the next number of a kind of record."""
        self._ids[kind] += 1
        return self._ids[kind]

    def new_uuid(self) -> str:
        """Draw a UUID."""
        return str(uuid.UUID(int=self.random.getrandbits(128), version=4))

    # --- groups and projects

    def index_group(self, group: Group) -> None:
        """Let a group be found by its path."""
        self.groups[group.id] = group
        self._groups_by_path[group.full_path] = group.id

    def index_project(self, project: Project) -> None:
        """Let a project be found by its path."""
        self.projects[project.id] = project
        self._projects_by_path[project.full_path] = project.id

    def forget_project(self, project: Project) -> None:
        """Let a project not be found by its path any more."""
        self._projects_by_path.pop(project.full_path, None)

    def find_group(self, key: str) -> Group | None:
        """Find a group by id or full path."""
        found = int(key) if key.isdecimal() else self._groups_by_path.get(key)
        return self.groups.get(found) if found is not None else None

    def find_project(self, key: str) -> Project | None:
        """Find a project by id or full path."""
        found = int(key) if key.isdecimal() else self._projects_by_path.get(key)
        return self.projects.get(found) if found is not None else None

    def project(self, path: str) -> Project:
        """Find a project for a script.

        Raises:
            SimulationError: there is none.
        """
        found = self.find_project(path)
        if found is None:
            raise SimulationError(f"the simulated GitLab has no project {path}")
        return found

    def ancestors(self, group: int | None) -> Iterator[Group]:
        """List a group and those above it, from the inside."""
        while group is not None:
            found = self.groups[group]
            yield found
            group = found.parent

    def role(self, user: User | None, project: Project) -> Role:
        """Compute a user's role in a project, inherited ones included."""
        if user is None:
            return Role.NONE
        if user.admin:
            return Role.OWNER
        inherited = [group.members.get(user.id, Role.NONE) for group in self.ancestors(project.group)]
        return max([project.members.get(user.id, Role.NONE), *inherited])

    def group_role(self, user: User | None, group: Group) -> Role:
        """Compute a user's role in a group, inherited ones included."""
        if user is None:
            return Role.NONE
        if user.admin:
            return Role.OWNER
        return max(above.members.get(user.id, Role.NONE) for above in self.ancestors(group.id))

    def sees_group(self, user: User | None, group: Group) -> bool:
        """Tell whether a user has a role in a group, above it or anywhere below it."""
        if user is None or self.group_role(user, group) > Role.NONE:
            return user is not None
        prefix = group.full_path + "/"
        below: list[Group | Project] = [*self.groups.values(), *self.projects.values()]
        return any(user.id in found.members for found in below if found.full_path.startswith(prefix))

    def may_see(self, user: User | None, project: Project) -> bool:
        """Tell whether a user may know of a project."""
        if project.visibility == "public" or (project.visibility == "internal" and user is not None):
            return True
        return self.role(user, project) > Role.NONE

    def visible_role(self, user: User | None, project: Project) -> Role:
        """Compute what a user may do: those who only see a project that is not private may read it."""
        role = self.role(user, project)
        return max(role, Role.REPORTER) if project.visibility != "private" else role

    # --- hooks

    def add_hook(self, hook: Hook) -> None:
        """Add a hook."""
        self.hooks[hook.id] = hook
        self._hooks_of.setdefault(_owner(hook), []).append(hook)

    def remove_hook(self, hook: Hook) -> None:
        """Remove a hook."""
        del self.hooks[hook.id]
        self._hooks_of[_owner(hook)].remove(hook)

    def project_hooks(self, project: Project) -> list[Hook]:
        """List the hooks of a project itself."""
        return list(self._hooks_of.get(("project", project.id), ()))

    def group_hooks(self, group: Group) -> list[Hook]:
        """List the hooks of a group itself."""
        return list(self._hooks_of.get(("group", group.id), ()))

    def system_hooks(self) -> list[Hook]:
        """List the hooks of the whole instance."""
        return list(self._hooks_of.get(("system", 0), ()))


def _owner(hook: Hook) -> tuple[str, int]:
    if hook.project is not None:
        return "project", hook.project
    return ("group", hook.group) if hook.group is not None else ("system", 0)
