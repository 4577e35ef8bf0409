"""`executor.toml`: what the person who runs this machine allows and limits; for a job, with its overrides.

No setting comes from anywhere else: everything in the environment may have been written by a job. An unknown
key is an error that names the nearest known one: a misspelt limit must never be silently without effect.
"""

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from imagechain.executor import globs, references
from imagechain.executor.errors import SystemFailureError

FILE_BYTES_MAX = 1024 * 1024
_UNITS_BYTES = {"": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
_UNITS_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_PULL_POLICIES = ("always", "if-not-present", "never")
_USERNS = ("", "auto", "keep-id")
#: What `podman run` may be told beyond the settings: nothing that names, labels, ends or connects what runs.
#: Not `pid` either: scripts are ended by their container's pid namespace.
_EXTRA_OPTIONS = frozenset(
    {
        "blkio-weight", "cgroup-parent", "cpu-period", "cpu-quota", "cpu-shares", "cpuset-cpus",
        "cpuset-mems", "device-cgroup-rule", "device-read-bps", "device-read-iops", "device-write-bps",
        "device-write-iops", "gpus", "group-add", "hostname", "ipc", "memory-reservation",
        "oom-kill-disable", "oom-score-adj", "security-opt", "sysctl", "ulimit", "umask",
    }
)  # fmt: skip


class Limits(NamedTuple):
    """What one container may use; zero means what podman's own default is."""

    cpus: float = 0.0
    memory_bytes: int = 0
    pids: int = 0
    shm_bytes: int = 0
    nofile: int = 0
    nproc: int = 0


class Settings(NamedTuple):
    """All settings, as they are for one job."""

    state_dir: str
    image: str = ""
    allowed_images: tuple[str, ...] = ()
    allowed_services: tuple[str, ...] = ()
    pull_policy: tuple[str, ...] = ("always",)
    pull_timeout_seconds: int = 1800
    auth_file: str = ""
    helper_image: str = ""
    runner_binary: str = "/usr/bin/gitlab-runner"
    run_entrypoint: bool = True
    #: Whether jobs may replace the entrypoints of images by their own.
    entrypoint_overwrite: bool = True
    init: bool = True
    ready_timeout_seconds: int = 60
    user: str = ""
    allowed_users: tuple[str, ...] = ()
    services_max: int = 20
    services_timeout_seconds: int = 30
    network: str = "job"
    mtu: int = 0
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    extra_hosts: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    tmpfs: tuple[str, ...] = ()
    read_only: bool = False
    privileged: bool = False
    services_privileged: bool = False
    #: Jobs of other refs get no privileges, whatever the two above say.
    privileged_protected_only: bool = False
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    seccomp: str = ""
    no_new_privileges: bool = False
    userns: str = ""
    runtime: str = ""
    extra_args: tuple[str, ...] = ()
    service_extra_args: tuple[str, ...] = ()
    limits: Limits = Limits()
    service_limits: Limits = Limits()
    cache_bytes_max: int = 50 << 30
    cache_age_seconds_max: int = 30 * 86400


class WrongValueError(ValueError):
    """A value is not what its setting takes; the message says what would be."""


def _text(value: object) -> str:
    if not isinstance(value, str) or "\0" in value:
        raise WrongValueError("must be a text")
    return value


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) and "\0" not in item for item in value):
        raise WrongValueError("must be a list of texts")
    return tuple(value)


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise WrongValueError("must be true or false")
    return value


def _count(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 31:
        raise WrongValueError("must be a number, 0 or greater")
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1 << 16:
        raise WrongValueError("must be a number, 0 or greater")
    return float(value)


def _bytes(value: object) -> int:
    match = re.fullmatch(r"([0-9]{1,12})\s*([KMGT]iB)?", value) if isinstance(value, str) else None
    if match is None:
        raise WrongValueError('must be a size such as "512MiB" or "50GiB"')
    return int(match[1]) * _UNITS_BYTES[match[2] or ""]


def _seconds(value: object) -> int:
    match = re.fullmatch(r"([0-9]{1,9})\s*([smhd])", value) if isinstance(value, str) else None
    if match is None:
        raise WrongValueError('must be a time such as "30s", "10m" or "30d"')
    return int(match[1]) * _UNITS_SECONDS[match[2]]


def _image(value: object) -> str:
    text = _text(value)
    if text and references.parse(text) is None:
        raise WrongValueError("must be the name of an image of a registry, or one under localhost/")
    return text


def _absolute(value: object) -> str:
    text = _text(value)
    if text and not text.startswith("/"):
        raise WrongValueError("must be an absolute path")
    return text


def _policies(value: object) -> tuple[str, ...]:
    texts = _texts(value)
    if not texts or not set(texts) <= set(_PULL_POLICIES):
        raise WrongValueError(f"must be a list of {', '.join(_PULL_POLICIES)}")
    return texts


def _extra_args(value: object) -> tuple[str, ...]:
    texts = _texts(value)
    for text in texts:
        option, _, rest = text.removeprefix("--").partition("=")
        if not text.startswith("--") or not rest or option not in _EXTRA_OPTIONS:
            raise WrongValueError(
                f'must be a list of texts such as "--cpuset-cpus=0-3", and {text!r} is none;'
                f" the options are {', '.join(sorted(_EXTRA_OPTIONS))}"
            )
    return texts


def _userns(value: object) -> str:
    text = _text(value)
    if text not in _USERNS:
        raise WrongValueError(f"must be one of {', '.join(repr(name) for name in _USERNS)}")
    return text


#: Key of a table -> field, and what reads its value.
_Reader = tuple[str, Callable[[object], Any]]
_LIMITS: Mapping[str, _Reader] = {
    "cpus": ("cpus", _number),
    "memory": ("memory_bytes", _bytes),
    "pids": ("pids", _count),
    "shm": ("shm_bytes", _bytes),
    "nofile": ("nofile", _count),
    "nproc": ("nproc", _count),
}
_CACHE: Mapping[str, _Reader] = {
    "size_max": ("cache_bytes_max", _bytes),
    "age_max": ("cache_age_seconds_max", _seconds),
}


def _limits(value: object) -> Limits:
    return Limits(**_read_table(value, _LIMITS))


#: The keys that a job's project or image may change.
_FOR_JOBS: Mapping[str, _Reader] = {
    "image": ("image", _image),
    "allowed_images": ("allowed_images", _texts),
    "allowed_services": ("allowed_services", _texts),
    "pull_policy": ("pull_policy", _policies),
    "pull_timeout": ("pull_timeout_seconds", _seconds),
    "auth_file": ("auth_file", _absolute),
    "helper_image": ("helper_image", _image),
    "runner_binary": ("runner_binary", _absolute),
    "run_entrypoint": ("run_entrypoint", _flag),
    "entrypoint_overwrite": ("entrypoint_overwrite", _flag),
    "init": ("init", _flag),
    "ready_timeout": ("ready_timeout_seconds", _seconds),
    "user": ("user", _text),
    "allowed_users": ("allowed_users", _texts),
    "services_max": ("services_max", _count),
    "services_timeout": ("services_timeout_seconds", _seconds),
    "network": ("network", _text),
    "mtu": ("mtu", _count),
    "dns": ("dns", _texts),
    "dns_search": ("dns_search", _texts),
    "extra_hosts": ("extra_hosts", _texts),
    "volumes": ("volumes", _texts),
    "devices": ("devices", _texts),
    "tmpfs": ("tmpfs", _texts),
    "read_only": ("read_only", _flag),
    "privileged": ("privileged", _flag),
    "services_privileged": ("services_privileged", _flag),
    "privileged_protected_only": ("privileged_protected_only", _flag),
    "cap_add": ("cap_add", _texts),
    "cap_drop": ("cap_drop", _texts),
    "seccomp": ("seccomp", _text),
    "no_new_privileges": ("no_new_privileges", _flag),
    "userns": ("userns", _userns),
    "runtime": ("runtime", _text),
    "extra_args": ("extra_args", _extra_args),
    "service_extra_args": ("service_extra_args", _extra_args),
    "limits": ("limits", _limits),
    "service_limits": ("service_limits", _limits),
}
_MATCHERS: Mapping[str, _Reader] = {"projects": ("projects", _texts), "images": ("images", _texts)}


class Override(NamedTuple):
    """One table `[[override]]`: for which jobs, and what is different for them."""

    projects: tuple[str, ...]
    images: tuple[str, ...]
    changes: Mapping[str, Any]

    def applies(self, project: str, image: str) -> bool:
        """Tell whether a job of this project in this image is meant."""
        reference = references.parse(image)
        names = reference.names if reference else (image,)
        return (not self.projects or globs.allowed(self.projects, [project])) and (
            not self.images or globs.allowed(self.images, names)
        )


class SettingsFile(NamedTuple):
    """All of `executor.toml`, checked."""

    base: Settings
    overrides: tuple[Override, ...]

    def for_job(self, project: str, image: str) -> Settings:
        """Return the settings of a job; later overrides win. An empty image is the settings' own."""
        settings = self.base
        for override in self.overrides:
            if override.applies(project, image or settings.image):
                settings = settings._replace(**override.changes)
        return settings


def load(path: str) -> SettingsFile:
    """Read the settings.

    Raises:
        SystemFailureError: the file cannot be read, or a setting is unknown or wrong.
    """
    try:
        with open(path, "rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
        if len(data) > FILE_BYTES_MAX:
            raise SystemFailureError(f"the settings file {path} is larger than {FILE_BYTES_MAX} bytes")
        table = tomllib.loads(data.decode())
        return _read_file(table)
    except OSError as error:
        raise SystemFailureError(
            f"cannot read the settings file {path}: {error.strerror}; write it with `imagechain-executor"
            " install`, or correct --settings in the runner's config.toml"
        ) from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise SystemFailureError(f"the settings file {path} is not TOML: {error}") from error
    except WrongValueError as error:
        raise SystemFailureError(f"the settings file {path}: {error}") from error


def is_root() -> bool:
    """Tell whether this is root, and not a user who is called so inside of `podman unshare`."""
    return os.geteuid() == 0 and "_CONTAINERS_ROOTLESS_UID" not in os.environ


def default_state_dir() -> str:
    """Return where the executor keeps its state if the settings name no folder."""
    if is_root():
        return "/var/lib/imagechain/executor"
    home = os.environ.get("HOME", "/")
    return os.environ.get("XDG_STATE_HOME", f"{home}/.local/state") + "/imagechain/executor"


def _read_file(table: Mapping[str, Any]) -> SettingsFile:
    known: Mapping[str, _Reader] = {
        **_FOR_JOBS,
        "state_dir": ("state_dir", _absolute),
        "cache": ("cache", lambda value: _read_table(value, _CACHE)),
        "override": ("override", lambda value: value),
    }
    fields = _read_table(table, known)
    overrides = fields.pop("override", [])
    fields.update(fields.pop("cache", {}))
    fields["state_dir"] = fields.get("state_dir") or default_state_dir()
    base = Settings(**fields)
    if not isinstance(overrides, list):
        raise WrongValueError("override must be tables, each written as [[override]]")
    return SettingsFile(
        base, tuple(_read_override(number, item) for number, item in enumerate(overrides, start=1))
    )


def _read_override(number: int, value: object) -> Override:
    try:
        changes = _read_table(value, {**_FOR_JOBS, **_MATCHERS})
    except WrongValueError as error:
        raise WrongValueError(f"override {number}: {error}") from error
    projects, images = changes.pop("projects", ()), changes.pop("images", ())
    if not projects and not images:
        raise WrongValueError(f"override {number} needs projects or images, which say for which jobs it is")
    return Override(projects, images, changes)


def _read_table(value: object, known: Mapping[str, _Reader]) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise WrongValueError("must be a table")
    fields: dict[str, Any] = {}
    for key, item in value.items():
        if key not in known:
            raise WrongValueError(f"unknown setting {key!r}{_nearest(key, known)}")
        field, read = known[key]
        try:
            fields[field] = read(item)
        except WrongValueError as error:
            raise WrongValueError(
                f"{key} {error}" if str(error).startswith("must") else f"{key}: {error}"
            ) from error
    return fields


def _nearest(key: str, known: Mapping[str, object]) -> str:
    import difflib  # noqa: PLC0415  # needed only where something is wrong; every start would pay for it

    near = difflib.get_close_matches(key, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(sorted(known))}"
