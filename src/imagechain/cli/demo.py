"""`imagechain demo`: the whole service on this machine, beside a simulated GitLab and a real registry.

All that is made, images included, is in one temporary folder that is removed at the end; only buildah's cache
of known layers, where root runs it, has a fixed place. GitLab is simulated; the rest is what runs elsewhere,
too: the service is a program of its own that is asked and told over HTTP, webhooks come to it over HTTP, and
images are built and pushed.
"""

import asyncio
import os
import re
import secrets
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

from imagechain.chain import Explanation, SourceStatus
from imagechain.cli.ask import Status, explanation_lines
from imagechain.cli.errors import EXIT_FAILED, EXIT_INTERRUPTED, UnavailableError
from imagechain.cli.output import print_error_lines, print_lines, print_table
from imagechain.cli.remote import RemoteService
from imagechain.images.process import ProgramError
from imagechain.testing import Role, SimulatedGitLab, SimulationError
from imagechain.testing import demo as testing_demo
from imagechain.testing.demo import Run, Runner, end_of, free_port, registry, running
from imagechain.testing.server import serving_here
from imagechain.testing.values import Pipeline
from imagechain.testing.world import load_projects

#: The example projects: in a wheel beside the runner (`pyproject.toml`), in a checkout where people see them.
_PLACES = (
    Path(testing_demo.__file__).with_name("group"),
    Path(__file__).parents[3] / "examples" / "group",
)
GROUP = "examples"
#: Each with those that it is built from; in an order in which they can be built.
CHAIN: Mapping[str, tuple[str, ...]] = {
    "base": (),
    "left": ("base",),
    "right": ("base",),
    "app": ("left", "right"),
    "leaf": ("app",),
}
#: The one that fails on purpose.
_BREAKS = "right"
_NEEDED = {"buildah": "buildah", "busybox": "busybox-static", "docker-registry": "docker-registry"}
_STEP_SECONDS_MAX = 60.0
_POLL_SECONDS = 0.1
#: So long nothing more may be started, when all is built.
_STILL_SECONDS = 3.0
_JOBS_MAX = 2
#: Which content something had and has, which tells a reader of the demo nothing.
_DIGESTS = re.compile(r" \(sha256:\S+ -> \S+\)")
#: A program that is linked dynamically names its loader.
_LOADER = re.compile(rb"/ld-[\w.-]+\.so")


def demo() -> int:
    """Show the service at work on this machine: a simulated GitLab, a real registry, real builds.

    Exits 1 if an image was not built exactly once.
    """
    busybox = _check_machine()
    with tempfile.TemporaryDirectory(prefix="imagechain-demo.", ignore_cleanup_errors=True) as folder:
        try:
            return asyncio.run(_demo(Path(folder), busybox))
        except asyncio.CancelledError:
            return EXIT_INTERRUPTED
        except (SimulationError, ProgramError) as error:
            print_error_lines([f"the demo failed: {error}"])
            return EXIT_FAILED


def _check_machine() -> Path:
    """Find what the demo needs; gives the program that the base image is made of."""
    missing = [package for program, package in _NEEDED.items() if shutil.which(program) is None]
    if missing:
        raise UnavailableError(f"the demo needs these Debian packages: {', '.join(missing)}; install them")
    busybox = Path(shutil.which("busybox") or "")
    if _LOADER.search(busybox.read_bytes()):
        raise UnavailableError(
            f"{busybox} needs libraries that an image from scratch lacks; install the Debian package "
            "busybox-static"
        )
    return busybox


async def _demo(folder: Path, busybox: Path) -> int:
    if (task := asyncio.current_task()) is not None:
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with _world(folder, busybox) as world:
        settings = world.gitlab.settings
        _tell(
            f"A simulated GitLab is at {settings.url}, a real registry at {settings.registry_host}.",
            f"Five projects of the group {GROUP} make an image each: base -> left, right -> app -> leaf.",
        )
        _step("The projects are pushed; their first pipelines build the chain once, with buildah.")
        await world.build_all()
        async with world.service():
            return await _story(world)


async def _story(world: "_World") -> int:
    _step("The service starts: it reads the group, installs webhooks, and adopts the images that are there.")
    _tell(f"While this runs, its dashboard is at {world.dashboard}")
    await world.until("webhooks and fresh images", lambda shown: world.is_hooked and _is_fresh(shown))
    _tell(f"{len(CHAIN)} webhooks are installed, and nothing has to be built.")
    before = len(world.runner.runs)

    _step(f"Upstream has a new release, the runner of {_BREAKS} breaks, and the schedule of base is due.")
    world.upstream("2")
    world.runner.broken = {_path(_BREAKS)}
    world.play_schedule("base")
    await world.until(f"a failure of {_BREAKS} that blocks the others", _is_held)

    _step(f"Why is leaf not built? Somebody asks: imagechain explain {_path('leaf')}")
    _tell(*(f"  {line}" for line in await world.explain(_path("leaf"))))

    _step(f"The runner is mended, and somebody says: imagechain retry {_path(_BREAKS)}")
    world.runner.broken = set()
    await world.retry(_path(_BREAKS))
    await world.until("a chain that is fresh again", _is_fresh)
    # Nothing more may be started now.
    await asyncio.sleep(_STILL_SECONDS)
    shown = await world.until("a chain that stays fresh", _is_fresh)

    runs = world.runner.runs[before:]
    _step("What was built since the new release:")
    _print_runs(shown, runs)
    wrong = check(runs)
    if wrong:
        print_error_lines(wrong)
        return EXIT_FAILED
    _tell(f"Each image was built exactly once, in order; the service took {world.calls} webhook calls.")
    return 0


def check(runs: Sequence[Run]) -> list[str]:
    """Tell what is wrong with a cascade: each image is built once, and not before those that it needs."""
    built = Counter(run.project for run in runs if run.outcome == "success")
    wrong = [
        f"{name} was built {built[_path(name)]} times, not once" for name in CHAIN if built[_path(name)] != 1
    ]
    failed = [run.project for run in runs if run.outcome == "failed"]
    if failed != [_path(_BREAKS)]:
        wrong.append(f"these failed: {', '.join(failed) or 'none'}, and not {_BREAKS} once")
    done = {run.project: run for run in runs if run.outcome == "success"}
    return wrong + [
        f"{child} was started before {parent} was built"
        for child, parents in CHAIN.items()
        for parent in parents
        if (begun := done.get(_path(child))) and (end := done.get(_path(parent))) and begun.began < end.ended
    ]


# --- the world ------------------------------------------------------------------------------------------


class _World:
    """GitLab, the registry, the runner, and the service when it runs."""

    def __init__(self, folder: Path, gitlab: SimulatedGitLab, runner: Runner) -> None:
        self.gitlab = gitlab
        self.runner = runner
        self._folder = folder
        self._port = free_port()
        self._service = RemoteService(f"http://127.0.0.1:{self._port}")
        #: What the service said last.
        self._shown: dict[str, SourceStatus] = {}
        self._api_token = secrets.token_hex(32)
        self._began = time.monotonic()

    def upstream(self, release: str) -> None:
        """Bring out a release of what the base is made of."""
        (self._folder / "upstream" / "release").write_text(f"release {release}\n")

    def play_schedule(self, name: str) -> Pipeline:
        """Run the pipeline schedule of a project."""
        (schedule,) = self.gitlab.project(_path(name)).schedules.values()
        return self.gitlab.schedules.play(schedule, self.gitlab.root)

    async def build_all(self) -> None:
        """Run a pipeline of each project, in order."""
        for name in CHAIN:
            project = self.gitlab.project(_path(name))
            pipeline = self.gitlab.pipelines.create(project, "main", user=self.gitlab.root, source="web")
            await self.gitlab.run_jobs()
            if pipeline.status != "success":
                raise SimulationError(f"{name} cannot be built here:\n{end_of(self.runner.runs[-1].log)}")

    @asynccontextmanager
    async def service(self) -> AsyncIterator[None]:
        """Run `imagechain serve`, and let GitLab's time pass, while the block runs."""
        bot = self.gitlab.add_user("imagechain", bot=True)
        self.gitlab.add_group(GROUP, members={bot: Role.MAINTAINER})
        for name, secret in (
            ("gitlab-token", self.gitlab.add_token(bot, scopes=("api", "read_registry")).value),
            ("hook-key", secrets.token_hex(32)),
            ("api-token", self._api_token),
        ):
            (self._folder / name).write_text(secret)
        config = self._folder / "imagechain.toml"
        config.write_text(self._settings())
        program = "import sys; from imagechain.cli.main import run; sys.exit(run(sys.argv[1:]))"
        # Settings of the person's own would win over the file.
        unset = [f"--unset={name}" for name in os.environ if name.startswith("IMAGECHAIN_")]
        argv = ["env", *unset, sys.executable, "-c", program, "serve", "--config", str(config)]
        async with running(argv, self._port, self._folder / "service.log"):
            living = asyncio.create_task(self.gitlab.live(parallel_max=_JOBS_MAX))
            try:
                yield
            finally:
                living.cancel()
                with suppress(asyncio.CancelledError):
                    await living

    def _settings(self) -> str:
        """Write the settings of the service; a failure is not tried again by itself."""
        settings = self.gitlab.settings
        return f"""\
state_dir = "{self._folder / "state"}"
[gitlab]
url = "{settings.url}"
groups = ["{GROUP}"]
token_file = "{self._folder / "gitlab-token"}"
[registry."{settings.registry_host}"]
insecure = true
[policy]
retry = []
[server]
listen = "127.0.0.1:{self._port}"
url = "{self._service.url}"
hook_key_file = "{self._folder / "hook-key"}"
api_token_file = "{self._folder / "api-token"}"
[store]
url = "sqlite:///{self._folder / "imagechain.db"}"
"""

    @property
    def dashboard(self) -> str:
        """Address of the service's pages."""
        return f"{self._service.url}/"

    @property
    def is_hooked(self) -> bool:
        """Whether each project has its webhook."""
        return len(self.gitlab.state.hooks) == len(CHAIN)

    @property
    def calls(self) -> int:
        """How many calls of webhooks the service took."""
        hooks = self.gitlab.state.hooks.values()
        return sum(event.response_status.startswith("2") for hook in hooks for event in hook.log)

    async def retry(self, source: str) -> None:
        """Tell the service to try a project again."""
        await asyncio.to_thread(self._service.tell, "retry", {"id": source}, self._api_token)

    async def explain(self, source: str) -> list[str]:
        """Ask the service about a project."""
        answer = await asyncio.to_thread(self._service.ask, f"explain/{source}", Explanation)
        return explanation_lines(answer)

    async def until(
        self, what: str, told: Callable[[Mapping[str, SourceStatus]], bool]
    ) -> Mapping[str, SourceStatus]:
        """Ask the service for its status until it is as told; tell of each change of a state."""
        end = time.monotonic() + _STEP_SECONDS_MAX
        while True:
            # Until it has read everything for the first time, it has no answer.
            with suppress(UnavailableError):
                self._show((await asyncio.to_thread(self._service.ask, "status", Status)).sources)
            if len(self._shown) == len(CHAIN) and told(self._shown):
                return self._shown
            if time.monotonic() > end:
                states = ", ".join(f"{one.id} {one.state}" for one in self._shown.values()) or "nothing"
                raise SimulationError(
                    f"no sign of {what} within {_STEP_SECONDS_MAX:.0f} s, but {states}; the service said:\n"
                    f"{end_of(self._folder / 'service.log')}"
                )
            await asyncio.sleep(_POLL_SECONDS)

    def _show(self, sources: Iterable[SourceStatus]) -> None:
        now = {one.id: one for one in sources}
        for id, one in now.items():
            before = self._shown.get(id)
            if before is not None and (before.state, before.blocked_by) != (one.state, one.blocked_by):
                _tell(f"  {time.monotonic() - self._began:5.1f} s  {id}: {one.state}{_because(one)}")
        self._shown = now


@asynccontextmanager
async def _world(folder: Path, busybox: Path) -> AsyncIterator[_World]:
    """Run GitLab, the registry and the runner while the block runs."""
    upstream = folder / "upstream"
    upstream.mkdir()
    shutil.copy(busybox, upstream / "busybox")
    gitlab = SimulatedGitLab(clock=time.time, seed=1)
    async with AsyncExitStack() as stack:
        host = gitlab.settings.registry_host = await stack.enter_async_context(registry(folder))
        await stack.enter_async_context(serving_here(gitlab))
        examples = next(place for place in _PLACES if place.is_dir())
        load_projects(
            gitlab,
            examples,
            GROUP,
            extra_files={".gitlab-ci.yml": (examples / "build.yml").read_text()},
            substitute={"registry.example.com": host},
        )
        base = gitlab.project(_path("base"))
        gitlab.schedules.create(base, owner=gitlab.root, ref="main", cron="0 3 * * *")
        runner = Runner(gitlab, folder / "runner", host, {"UPSTREAM": str(upstream)})
        gitlab.on_job(runner)
        world = _World(folder, gitlab, runner)
        world.upstream("1")
        yield world


# --- what is shown --------------------------------------------------------------------------------------


def _path(name: str) -> str:
    return f"{GROUP}/{name}"


def _is_fresh(shown: Mapping[str, SourceStatus]) -> bool:
    return all(one.state == "fresh" for one in shown.values())


def _is_held(shown: Mapping[str, SourceStatus]) -> bool:
    """Tell whether one image failed, those above it wait for it by name, and all else is built."""
    blocked = [shown[_path("app")], shown[_path("leaf")]]
    return (
        shown[_path(_BREAKS)].state == "failed"
        and all(one.state == "blocked" and one.blocked_by == (_path(_BREAKS),) for one in blocked)
        and all(shown[_path(name)].state == "fresh" for name in ("base", "left"))
    )


def _tell(*lines: str) -> None:
    print_lines(lines)
    sys.stdout.flush()


def _step(line: str) -> None:
    _tell("", line)


def _because(one: SourceStatus) -> str:
    if one.state == "blocked":
        return f" by {', '.join(one.blocked_by)}"
    if one.blocked_by:
        return f", waits for {', '.join(one.blocked_by)}"
    words = _DIGESTS.sub("", "; ".join(reason.text for reason in one.reasons))
    return f" ({words})" if words else ""


def _print_runs(shown: Mapping[str, SourceStatus], runs: Sequence[Run]) -> None:
    """Tell of each image how often it was built in the cascade, and how each of its pipelines ended."""
    rows = []
    for name in CHAIN:
        own = [run for run in runs if run.project == _path(name)]
        built = sum(run.outcome == "success" for run in own)
        pipelines = ", ".join(f"{run.source} {run.outcome}" for run in own)
        rows.append((_path(name), shown[_path(name)].state, str(built), pipelines))
    print_table(("IMAGE", "STATE", "BUILT", "PIPELINES"), rows)
