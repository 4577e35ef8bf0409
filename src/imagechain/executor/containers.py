"""The arguments of `podman run` for the containers of a job. Pure: nothing is run here.

No argument holds a secret: they are shown by `ps`, by `podman inspect`, and are kept in podman's database.
"""

import json
from collections.abc import Mapping, Sequence

from imagechain.executor.folders import LABEL
from imagechain.executor.job import Job
from imagechain.executor.settings import Limits, Settings
from imagechain.executor.state import DEADLINE_MARGIN_SECONDS, JobState, name

BUILDS_DIR = "/builds"
CACHE_DIR = "/cache"
#: Where the helper finds the runner's own program, which caches and artifacts need.
RUNNER_BINARY = "/usr/local/bin/gitlab-runner"
#: Conmon keeps the output of a container up to here.
_LOG_BYTES_MAX = 16 * 1024 * 1024


def labels(label: str, job: Job, kind: str) -> list[str]:
    """Return the options that label one thing of a job."""
    values = {
        f"{LABEL}.job": job.key,
        f"{LABEL}.kind": kind,
        f"{LABEL}.project": str(job.project_id),
        f"{LABEL}.protected": str(job.protected).lower(),
    }
    return [f"--label={label}", *(f"--label={key}={value}" for key, value in values.items())]


def network(job: Job, settings: Settings, label: str, network_name: str) -> list[str]:
    """Return the arguments that make the network of a job, which no other job can reach."""
    mtu = [f"--opt=mtu={settings.mtu}"] if settings.mtu else []
    return [
        "network",
        "create",
        *labels(label, job, "network"),
        "--opt=isolate=true",
        *mtu,
        network_name,
    ]


def volume(job: Job, label: str, kind: str, volume_name: str) -> list[str]:
    """Return the arguments that make a volume of a job's project."""
    return ["volume", "create", *labels(label, job, kind), volume_name]


class Runs:
    """The `podman run` of each container of one job."""

    def __init__(self, job: Job, settings: Settings, state: JobState, folder: str, label: str) -> None:
        """Fix what they have in common."""
        self._job = job
        self._settings = settings
        self._state = state
        self._folder = folder
        self._label = label

    @property
    def privileged(self) -> bool:
        """Whether this job's container gets all privileges."""
        return self._settings.privileged and self._may_be_privileged

    @property
    def _may_be_privileged(self) -> bool:
        return self._job.protected or not self._settings.privileged_protected_only

    def helper(self, source: Sequence[str], command: Sequence[str]) -> list[str]:
        """Return the arguments of the container for git, caches and artifacts; the source ends them."""
        return [
            *self._common("helper", ["helper"]),
            *self._shared_volumes(),
            *self._userns("helper"),
            "--interactive",
            "--user=0",
            f"--entrypoint={json.dumps(list(command))}",
            *source,
        ]

    def helper_image(self, image: str) -> list[str]:
        """Return the end of the helper's arguments for an image: the runner's own program and the image."""
        binary = self._settings.runner_binary
        return [*([f"--volume={binary}:{RUNNER_BINARY}:ro"] if binary else []), image]

    def build(
        self,
        image: str,
        entrypoint: Sequence[str],
        command: Sequence[str],
        user: str,
        variables: Mapping[str, str],
    ) -> list[str]:
        """Return the arguments of the container for the job's own scripts."""
        settings = self._settings
        return [
            *self._common("build", ["build"]),
            *self._limits(settings.limits),
            *self._confinement(self.privileged),
            *self._shared_volumes(),
            *self._userns("build"),
            *(f"--volume={item}" for item in settings.volumes),
            *(f"--device={item}" for item in settings.devices),
            *(f"--tmpfs={item}" for item in settings.tmpfs),
            *(["--read-only"] if settings.read_only else []),
            *(["--init"] if settings.init else []),
            *settings.extra_args,
            *([f"--user={user}"] if user else []),
            *(f"--env={key}={value}" for key, value in variables.items()),
            "--interactive",
            f"--entrypoint={json.dumps([*entrypoint, *command])}",
            image,
        ]

    def service(
        self,
        number: int,
        image: str,
        *,
        aliases: Sequence[str],
        entrypoint: Sequence[str] | None,
        command: Sequence[str],
        user: str,
        variables: Mapping[str, str],
    ) -> list[str]:
        """Return the arguments of a service's container."""
        return [
            *self._common(f"service-{number}", aliases),
            *self._limits(self._settings.service_limits),
            *self._confinement(self._settings.services_privileged and self._may_be_privileged),
            *([f"--userns={self._settings.userns}"] if self._settings.userns else []),
            # The executor asks for health itself; podman would need a timer of systemd for each service.
            "--no-healthcheck",
            *self._settings.service_extra_args,
            *([f"--user={user}"] if user else []),
            *(f"--env={key}={value}" for key, value in variables.items()),
            *([] if entrypoint is None else [_entrypoint(entrypoint)]),
            image,
            *command,
        ]

    def _common(self, kind: str, aliases: Sequence[str]) -> list[str]:
        settings = self._settings
        return [
            "run",
            "--detach",
            # Images are looked at and pulled before, where a failure can be told for what it is.
            "--pull=never",
            f"--name={name(self._job.key, kind)}",
            *labels(self._label, self._job, kind.split("-", maxsplit=1)[0]),
            # Conmon keeps the deadline even if the runner and this program are gone.
            f"--timeout={self._job.timeout_seconds + DEADLINE_MARGIN_SECONDS}",
            f"--pidfile={self._folder}/{kind}.pid",
            "--log-driver=k8s-file",
            f"--log-opt=path={self._folder}/{kind}.log",
            f"--log-opt=max-size={_LOG_BYTES_MAX}",
            *self._network(aliases),
            *([f"--runtime={settings.runtime}"] if settings.runtime else []),
        ]

    def _network(self, aliases: Sequence[str]) -> list[str]:
        settings = self._settings
        chosen = self._state.network or settings.network
        options = [f"--network={chosen}"]
        if self._state.network:
            options += [f"--network-alias={alias}" for alias in aliases]
        if chosen != "none":
            options += [f"--dns={item}" for item in settings.dns]
            options += [f"--dns-search={item}" for item in settings.dns_search]
        return options + [f"--add-host={item}" for item in settings.extra_hosts]

    def _shared_volumes(self) -> list[str]:
        # Another range of user ids may have been picked for the last job of this volume.
        option = ":U" if self._settings.userns == "auto" else ""
        return [
            f"--volume={self._state.builds_volume}:{BUILDS_DIR}{option}",
            f"--volume={self._state.cache_volume}:{CACHE_DIR}{option}",
        ]

    def _userns(self, kind: str) -> list[str]:
        userns = self._settings.userns
        if userns == "auto" and kind == "build":
            # Two ranges could not share the volumes.
            return [f"--userns=container:{name(self._job.key, 'helper')}"]
        return [f"--userns={userns}"] if userns else []

    def _limits(self, limits: Limits) -> list[str]:
        options = {
            "--cpus": f"{limits.cpus:g}" if limits.cpus else "",
            "--memory": f"{limits.memory_bytes}b" if limits.memory_bytes else "",
            # Without this, podman allows as much again of swap.
            "--memory-swap": f"{limits.memory_bytes}b" if limits.memory_bytes else "",
            "--pids-limit": str(limits.pids or ""),
            "--shm-size": f"{limits.shm_bytes}b" if limits.shm_bytes else "",
        }
        ulimits = {"nofile": limits.nofile, "nproc": limits.nproc}
        return [
            *(f"{option}={value}" for option, value in options.items() if value),
            *(f"--ulimit={kind}={count}:{count}" for kind, count in ulimits.items() if count),
        ]

    def _confinement(self, privileged: bool) -> list[str]:
        settings = self._settings
        return [
            *(["--privileged"] if privileged else []),
            *(f"--cap-add={item}" for item in settings.cap_add),
            *(f"--cap-drop={item}" for item in settings.cap_drop),
            *([f"--security-opt=seccomp={settings.seccomp}"] if settings.seccomp else []),
            *(["--security-opt=no-new-privileges"] if settings.no_new_privileges else []),
        ]


def _entrypoint(words: Sequence[str]) -> str:
    """Return the option for an entrypoint; `[""]` is how people ask for none."""
    given = [word for word in words if word]
    return f"--entrypoint={json.dumps(given) if given else ''}"
