"""Images: whether a job may use one, and how it gets into the local store.

A job's image is looked at under its whole name, then used by its id, so that nobody can change in between
what was allowed. Credentials reach podman through a file in memory that only it inherits.
"""

import base64
import json
import os
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from imagechain.executor import globs, podman, references
from imagechain.executor.errors import BuildFailureError, SystemFailureError
from imagechain.executor.folders import StateFolder
from imagechain.executor.job import Image, Job
from imagechain.executor.podman import PodmanError
from imagechain.executor.settings import Settings

#: What a registry, or podman, says when further attempts are of no use.
_FINAL = re.compile(
    r"manifest unknown|name unknown|not found|unauthorized|authentication required|\bdenied\b"
    r"|no image found in (?:manifest list|image index)|invalid username/password|unsupported platform"
    r"|no match(?:ing)? (?:for )?platform",
    re.IGNORECASE,
)
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


class LocalImage(NamedTuple):
    """An image in the local store."""

    id: str
    name: str
    entrypoint: tuple[str, ...]
    platform: str
    tcp_ports: tuple[int, ...]
    #: As in an image's config: `["CMD", ...]`, `["CMD-SHELL", text]`, or nothing.
    healthcheck: tuple[str, ...]


def choose(image: Image, patterns: Sequence[str], own: str, what: str) -> references.Reference:
    """Read the name of an image and tell whether this machine allows it; the settings' own always is.

    Raises:
        BuildFailureError: it is no image of a registry, or not allowed.
    """
    reference = references.parse(image.name)
    if reference is None:
        raise BuildFailureError(
            f"the {what} {image.name!r} is not the name of an image of a registry;"
            " other sources are not allowed"
        )
    ours = references.parse(own) if own else None
    if (ours and reference.whole == ours.whole) or globs.allowed(patterns, reference.names):
        return reference
    if patterns or reference.is_local:
        allowed = ", ".join(patterns) or "images of registries"
        raise BuildFailureError(
            f"the {what} {image.name!r} is not allowed on this runner, which allows: {allowed}"
        )
    return reference


def policies(image: Image, settings: Settings, what: str) -> tuple[str, ...]:
    """Return the pull policies to try, in order.

    Raises:
        BuildFailureError: the job asks only for such as this machine does not allow.
    """
    asked = tuple(policy for policy in image.pull_policy if policy in settings.pull_policy)
    if image.pull_policy and not asked:
        raise BuildFailureError(
            f"the {what} {image.name!r} asks for the pull policy {', '.join(image.pull_policy)};"
            f" this runner allows: {', '.join(settings.pull_policy)}"
        )
    return asked or settings.pull_policy[:1]


class Fetcher:
    """Brings the images of one job into the local store."""

    def __init__(self, job: Job, settings: Settings, state: StateFolder) -> None:
        """Fix the job, whose credentials count."""
        self._job = job
        self._settings = settings
        self._state = state
        self._seen: dict[str, LocalImage] = {}

    def look(self, wanted: Sequence[references.Reference]) -> None:
        """Look at several images at once: most jobs find that all of theirs are there."""
        self._seen = inspect_all([reference.whole for reference in wanted])

    def fetch(self, reference: references.Reference, tries: Sequence[str], platform: str) -> LocalImage:
        """Return an image as the first policy that works gives it.

        Raises:
            BuildFailureError: no further attempt would bring it.
            SystemFailureError: another attempt may.
        """
        failure: BuildFailureError | SystemFailureError = BuildFailureError("no pull policy is allowed")
        for policy in tries:
            present = self._present(reference) if policy != "always" or reference.is_local else None
            if present and _runs_on(present, platform):
                if present.id in self._state.used("images"):
                    self._state.touch("images", present.id)
                return present
            if policy == "never" or reference.is_local:
                failure = BuildFailureError(
                    f"the image {reference.whole} is not on this machine, and is not to be pulled"
                    + (f" for the platform {platform}" if platform else "")
                )
                continue
            try:
                return self._pull(reference, platform)
            except (BuildFailureError, SystemFailureError) as error:
                failure = error
        raise failure

    def _present(self, reference: references.Reference) -> LocalImage | None:
        return self._seen.get(reference.whole) or inspect(reference.whole)

    def _pull(self, reference: references.Reference, platform: str) -> LocalImage:
        before = set(podman.check("images", "--quiet", "--no-trunc", "--all").split())
        memory = os.memfd_create("auth.json", 0)
        try:
            os.write(memory, authentication(self._job, self._settings))
            options = [f"--authfile=/proc/self/fd/{memory}"]
            options += [f"--platform={platform}"] if platform else []
            call = podman.Call(["pull", "--quiet", *options, reference.whole], keep=[memory], leashed=True)
            result = call.result(self._settings.pull_timeout_seconds)
        finally:
            os.close(memory)
        if result.code != 0:
            raise _failure(reference, result.error)
        image = inspect((result.output.split() or [reference.whole])[-1])
        if image is None:
            raise SystemFailureError(f"the image {reference.whole} was removed while it was being pulled")
        # An image that somebody else brought is never removed.
        if f"sha256:{image.id}" not in before or image.id in self._state.used("images"):
            self._state.touch("images", image.id, reference.whole)
        return image._replace(name=reference.whole)


def inspect(name: str) -> LocalImage | None:
    """Look at an image of the local store.

    Raises:
        SystemFailureError: podman fails otherwise than by not finding it.
    """
    arguments = ["image", "inspect", "--format=json", name]
    result = podman.run(*arguments)
    if result.code != 0:
        if re.search(r"no such (?:image|object)|not known|not found", result.error, re.IGNORECASE):
            return None
        raise PodmanError(arguments, result)
    return _read(json.loads(result.output)[0], name)


def inspect_all(names: Sequence[str]) -> dict[str, LocalImage]:
    """Look at several images in one call; those that are not there, or have no such tag, are left out."""
    result = podman.run("image", "inspect", "--format=json", *dict.fromkeys(names))
    found = {}
    for table in json.loads(result.output or "[]") or []:
        for name in (*(table.get("RepoTags") or ()), *(table.get("RepoDigests") or ())):
            if name in names:
                found[name] = _read(table, name)
    return found


def authentication(job: Job, settings: Settings) -> bytes:
    """Return the credentials of a job in the format of `auth.json`.

    The job's variable counts first, then what this machine has, then what GitLab gave the job. Of the
    variable only plain entries count: a helper program that it names would run on this machine.
    """
    auths: dict[str, Any] = {
        credential.registry: {
            "auth": base64.b64encode(f"{credential.username}:{credential.password}".encode()).decode()
        }
        for credential in job.credentials
    }
    whole: dict[str, Any] = _machine_authentication(settings)
    auths |= whole.get("auths") or {}
    if job.auth_config:
        try:
            given = json.loads(job.auth_config)
            auths |= {key: {"auth": str(entry["auth"])} for key, entry in given.get("auths", {}).items()}
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError):
            raise BuildFailureError(
                'the variable DOCKER_AUTH_CONFIG is not of the form {"auths": {"REGISTRY": {"auth": "..."}}}'
            ) from None
    return json.dumps({**whole, "auths": auths}).encode()


def _machine_authentication(settings: Settings) -> dict[str, Any]:
    home = os.environ.get("HOME", "/nonexistent")
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    usual = [
        f"{runtime}/containers/auth.json",
        f"{home}/.config/containers/auth.json",
        f"{home}/.docker/config.json",
    ]
    for path in [settings.auth_file] if settings.auth_file else usual:
        try:
            table = _read_json(path)
        except FileNotFoundError:
            if settings.auth_file:
                raise SystemFailureError(f"auth_file {path} does not exist; correct the setting") from None
            continue
        except (OSError, ValueError) as error:
            raise SystemFailureError(f"cannot read the credentials in {path}: {error}") from error
        if isinstance(table, dict):
            # GitLab's docker executor reads these three as well.
            return {key: table[key] for key in ("auths", "credHelpers", "credsStore") if key in table}
    return {}


def _read_json(path: str) -> Any:
    with open(path, "rb") as file:
        return json.load(file)


def _failure(reference: references.Reference, said: str) -> BuildFailureError | SystemFailureError:
    said = said.strip()
    last = said.splitlines()[-1][-2000:] if said else "podman said nothing"
    if _FINAL.search(last):
        return BuildFailureError(
            f"cannot pull {reference.whole}: {last}; correct the name, or give the job credentials"
            " (DOCKER_AUTH_CONFIG)"
        )
    return SystemFailureError(f"cannot pull {reference.whole}: {last}")


def _read(table: dict[str, Any], name: str) -> LocalImage:
    config = table.get("Config") or {}
    # Podman reports it at the top level, and within the config in later versions.
    healthcheck = (
        table.get("HealthCheck") or table.get("Healthcheck") or config.get("Healthcheck") or {}
    ).get("Test") or ()
    ports = [port.partition("/") for port in config.get("ExposedPorts") or {}]
    return LocalImage(
        id=table["Id"].removeprefix("sha256:"),
        name=name,
        entrypoint=tuple(config.get("Entrypoint") or ()),
        platform=f"{table.get('Os', 'linux')}/{table.get('Architecture', '')}",
        tcp_ports=tuple(
            sorted(int(port) for port, _, kind in ports if port.isdecimal() and kind in {"", "tcp"})
        ),
        healthcheck=tuple(healthcheck) if healthcheck and healthcheck[0] != "NONE" else (),
    )


def _runs_on(image: LocalImage, platform: str) -> bool:
    """Tell whether an image is for the platform that a job asks for, if it asks."""
    if not platform:
        return True
    parts = platform.lower().split("/")
    os_name, architecture = parts[:2] if len(parts) > 1 else ("linux", parts[0])
    return image.platform == f"{os_name}/{_ARCHITECTURES.get(architecture, architecture)}"


def is_foreign(image: LocalImage) -> bool:
    """Tell whether an image is for another kind of machine than this one."""
    here = os.uname().machine
    return image.platform != f"linux/{_ARCHITECTURES.get(here, here)}"
