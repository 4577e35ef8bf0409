"""The stage `prepare`: check what the job asks for, then make its network, services and containers."""

import itertools
import os
import re
import time
from collections.abc import Sequence
from typing import NamedTuple

from imagechain.executor import (
    cleanup,
    containers,
    host_helper,
    isolation,
    podman,
    processes,
    services,
    settings,
    shell,
    state,
)
from imagechain.executor import job as jobs
from imagechain.executor.arguments import take_settings
from imagechain.executor.errors import BuildFailureError, SystemFailureError
from imagechain.executor.folders import StateFolder
from imagechain.executor.job import Image, Job
from imagechain.executor.log import say
from imagechain.executor.podman import PodmanError
from imagechain.executor.pull import Fetcher, LocalImage, choose, is_foreign, policies
from imagechain.executor.ready import Start, marker
from imagechain.executor.references import Reference
from imagechain.executor.settings import Settings
from imagechain.executor.signals import raise_when_cancelled
from imagechain.executor.state import Container, JobState

#: Larger public variables are left out of the container's environment: scripts set all of them by themselves.
_VARIABLE_CHARACTERS_MAX = 16 * 1024
#: These could keep the container's shell from starting; scripts set them by themselves, too.
_NOT_FOR_SHELL = frozenset({"PATH", "ENV", "BASH_ENV", "LD_PRELOAD", "LD_LIBRARY_PATH"})
_VARIABLE_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


class Wish(NamedTuple):
    """An image that a job needs, checked against what is allowed."""

    asked: Image
    reference: Reference
    policies: tuple[str, ...]
    platform: str


def main(arguments: list[str]) -> int:
    """Make everything that the scripts of a job need."""
    raise_when_cancelled()
    path, _ = take_settings(arguments)
    settings_file, job = settings.load(path), jobs.load()
    image = job.image.name if job.image else ""
    try:
        _Preparation(job, settings_file.for_job(job.project_path, image)).run()
    finally:
        podman.stop_all()
    return 0


class _Preparation:
    """One attempt to prepare one job."""

    def __init__(self, job: Job, chosen: Settings) -> None:
        self._job = job
        self._settings = chosen
        self._folders = StateFolder(chosen.state_dir)
        self._folder = self._folders.job(job.key)

    def run(self) -> None:
        """Check, then make; whatever fails is left to `cleanup`."""
        image, wished_helper, wished_services = self._wishes()
        job_state = self._register(len(wished_services))
        calls = self._make_network_and_volumes(job_state)
        fetcher = Fetcher(self._job, self._settings, self._folders)
        wishes = [image, *wished_services] + ([wished_helper] if wished_helper else [])
        fetcher.look([wish.reference for wish in wishes])
        runs = containers.Runs(self._job, self._settings, job_state, self._folder, self._folders.label)
        helper_source = self._helper_source(fetcher, runs, wished_helper)
        local_image, *local_services = [
            fetcher.fetch(wish.reference, wish.policies, wish.platform) for wish in (image, *wished_services)
        ]
        for call in calls:
            call.check()
        helper_call = podman.Call(runs.helper(helper_source, shell.keep_alive(marker(self._job.key))))
        if wished_services:
            self._run_services(runs, wished_services, local_services)
        if self._settings.userns == "auto":
            helper_call.check()
        build = self._run_build(runs, image, local_image)
        helper_call.check()
        if job_state.network:
            isolation.keep(self._folders)
        try:
            helper = self._ready("helper")
        except BuildFailureError as error:
            helper_name = self._settings.helper_image or "with this machine's programs"
            raise SystemFailureError(f"the helper {helper_name} {error}") from error
        job_state = job_state._replace(build=build, helper=helper)
        state.save(self._folder, job_state)

    def _wishes(self) -> tuple[Wish, Wish | None, list[Wish]]:
        """Check what the job asks for; without a helper image, this machine's programs are the helper.

        Raises:
            BuildFailureError: it is not allowed.
        """
        chosen, job = self._settings, self._job
        if job.image is None and not chosen.image:
            raise BuildFailureError("the job names no `image:`, and this runner has none for such jobs")
        if len(job.services) > chosen.services_max:
            raise BuildFailureError(
                f"the job asks for {len(job.services)} services; this runner allows {chosen.services_max}"
            )
        image = job.image or Image(chosen.image)
        return (
            self._wish(image, chosen.allowed_images, chosen.image, "image"),
            self._wish(Image(chosen.helper_image), (), chosen.helper_image, "helper image")
            if chosen.helper_image
            else None,
            [self._wish(service, chosen.allowed_services, "", "service") for service in job.services],
        )

    def _wish(self, image: Image, patterns: Sequence[str], own: str, what: str) -> Wish:
        reference = choose(image, patterns, own, what)
        if image.entrypoint is not None and not self._settings.entrypoint_overwrite:
            say(f"warning: this runner keeps the entrypoint of the {what} {image.name!r}, not the job's")
            image = image._replace(entrypoint=None)
        platform = jobs.expand(image.platform, self._job.public_variables)
        return Wish(image, reference, policies(image, self._settings, what), platform)

    def _register(self, service_count: int) -> JobState:
        """Note the job before anything is made, so that nothing made can be forgotten."""
        earlier = state.load(self._folder)
        if earlier is not None:
            cleanup.remove(self._folder, earlier)
        cleanup.forget(self._folder)
        job, chosen = self._job, self._settings
        project = f"{job.key.partition('-')[2]}-{job.project_id}"
        if job.protected:
            project += "-protected"
        if chosen.userns:
            # What was written under other user ids could not be changed.
            project += f"-{chosen.userns}"
        with self._folders.locked():
            folder = self._folders.make_job(job.key)
            builds_volume, cache_volume = state.name(job.key, "builds"), state.name(project, "cache")
            if job.fetches:
                builds_volume = self._free_volume(state.name(project, "builds"))
            if chosen.userns == "auto":
                # Each job has other user ids, and makes its volumes theirs.
                cache_volume = self._free_volume(cache_volume)
            job_state = JobState(
                key=job.key,
                runner=processes.runner(),
                deadline=time.time() + job.timeout_seconds + state.DEADLINE_MARGIN_SECONDS,
                attempt=os.environ["JOB_RESPONSE_FILE"],
                services=service_count,
                shown_services=tuple(service.name for service in job.services if job.debugs_services),
                network=self._network_name() if chosen.network == "job" else "",
                builds_volume=builds_volume,
                builds_kept=job.fetches,
                cache_volume=cache_volume,
            )
            state.save(folder, job_state)
        return job_state

    def _network_name(self) -> str:
        # New for each attempt: what the DNS of podman failed to forget of an old network of the same name
        # would make it listen on an address that is not there any more.
        return state.name(self._job.key, f"network-{os.urandom(4).hex()}")

    def _free_volume(self, prefix: str) -> str:
        """Return the first volume of this kind that no other job has, whatever became of that job."""
        states = (state.load(folder) for folder in self._folders.jobs())
        taken = {
            volume
            for other in states
            if other is not None
            for volume in (other.builds_volume, other.cache_volume)
        }
        names = (f"{prefix}-{number}" for number in itertools.count())
        return next(volume for volume in names if volume not in taken)

    def _make_network_and_volumes(self, job_state: JobState) -> list["_Making"]:
        job, label = self._job, self._folders.label
        known = self._folders.used("volumes")
        making = []
        if job_state.network:
            making.append(_Making(containers.network(job, self._settings, label, job_state.network)))
        kept = [("cache", job_state.cache_volume)]
        if job_state.builds_kept:
            kept.append(("builds", job_state.builds_volume))
        else:
            making.append(_Making(containers.volume(job, label, "passing", job_state.builds_volume)))
        for kind, volume in kept:
            self._folders.touch("volumes", volume)
            if volume not in known:
                making.append(_Making(containers.volume(job, label, kind, volume)))
        return making

    def _helper_source(self, fetcher: Fetcher, runs: containers.Runs, wish: Wish | None) -> list[str]:
        """Return what the helper is made of, as the end of its arguments."""
        binary = self._settings.runner_binary
        if binary and not os.path.exists(binary):
            raise SystemFailureError(f"the runner_binary {binary} does not exist; correct the setting")
        if wish is None:
            if self._settings.userns == "auto":
                raise SystemFailureError('userns = "auto" needs a helper_image; set one')
            root = self._folders.helper_root
            host_helper.make_root(root)
            return host_helper.options(root, binary)
        try:
            image = fetcher.fetch(wish.reference, wish.policies, wish.platform)
        except BuildFailureError as error:
            raise SystemFailureError(f"the helper_image of the settings: {error}") from error
        return runs.helper_image(image.id)

    def _run_services(
        self, runs: containers.Runs, wishes: Sequence[Wish], images: Sequence[LocalImage]
    ) -> None:
        names = services.aliases(self._job.services)
        started = [
            services.Service(number, wish.asked, image, aliases)
            for number, (wish, image, aliases) in enumerate(zip(wishes, images, names, strict=True))
        ]
        started = services.start(started, self._job, runs)
        if self._settings.services_timeout_seconds:
            services.wait(started, self._job, self._folder, self._settings.services_timeout_seconds)

    def _run_build(self, runs: containers.Runs, wish: Wish, image: LocalImage) -> Container:
        asked = wish.asked.entrypoint
        entrypoint = image.entrypoint if asked is None else tuple(word for word in asked if word)
        if not self._settings.run_entrypoint:
            entrypoint = ()
        variables = {
            key: value
            for key, value in self._job.public_variables.items()
            if _VARIABLE_NAME.fullmatch(key)
            and key not in _NOT_FOR_SHELL
            and len(value) <= _VARIABLE_CHARACTERS_MAX
        }
        user = self._user(wish.asked)
        arguments = runs.build(image.id, entrypoint, shell.keep_alive(marker(self._job.key)), user, variables)
        say(f"running in {image.name} ({image.id[:12]})" + (" with all privileges" * runs.privileged))
        result = podman.Call(arguments).result()
        if result.code != 0 and podman.blames_image(result.error):
            raise BuildFailureError(self._broken(wish, image, entrypoint, result.error.strip()))
        if result.code != 0:
            raise PodmanError(arguments, result)
        try:
            return self._ready("build")
        except BuildFailureError as error:
            raise BuildFailureError(self._broken(wish, image, entrypoint, str(error))) from error

    def _broken(self, wish: Wish, image: LocalImage, entrypoint: Sequence[str], said: str) -> str:
        """Say that the container of a job could not be started, and which part of the image is at fault."""
        if is_foreign(image):
            said += f" (the image is for {image.platform}, which this machine is not)"
        if entrypoint:
            return f"the entrypoint {list(entrypoint)} of the image {wish.reference.whole}: {said}"
        return (
            f"the image {wish.reference.whole} cannot run scripts; it needs a shell named `sh` in its PATH:"
            f" {said}"
        )

    def _user(self, image: Image) -> str:
        if self._settings.user:
            return self._settings.user
        user = jobs.expand(image.user, self._job.public_variables)
        if user and self._settings.allowed_users and user not in self._settings.allowed_users:
            allowed = ", ".join(self._settings.allowed_users)
            raise BuildFailureError(f"the job asks to run as {user!r}; this runner allows: {allowed}")
        return user

    def _ready(self, kind: str) -> Container:
        start = Start(self._folder, kind, self._job.key)
        return start.wait(self._settings.ready_timeout_seconds)


class _Making:
    """A network or a volume that is being made."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._arguments = arguments
        self._call = podman.Call(arguments)

    def check(self) -> None:
        """Wait for it; what exists already was made by an attempt that was killed.

        Raises:
            SystemFailureError: podman failed.
        """
        result = self._call.result()
        if result.code != 0 and "already exists" not in result.error:
            raise PodmanError(self._arguments, result)
