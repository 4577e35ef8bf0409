"""The job, as GitLab sent it to the runner: `JOB_RESPONSE_FILE`, read into values.

This file is the only source of a job's identity, image, services and credentials. The `CUSTOM_ENV_*`
variables are not: a job's own variables override every one of them.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from imagechain.executor.errors import SystemFailureError

RESPONSE_BYTES_MAX = 64 * 1024 * 1024
#: GitLab's own bound of a job's time-out is one month.
TIMEOUT_SECONDS_MAX = 40 * 86400

_NAME = re.compile(r"\$(?:([A-Za-z_][A-Za-z0-9_]*)|\{([A-Za-z_][A-Za-z0-9_]*)\})")


class Variable(NamedTuple):
    """A variable of the job, or of one service."""

    key: str
    value: str
    #: Whether anybody who sees the job may see it.
    public: bool
    raw: bool


class Image(NamedTuple):
    """The image of the job or of a service, with what the job asks about it."""

    name: str
    entrypoint: tuple[str, ...] | None = None
    command: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    variables: tuple[Variable, ...] = ()
    pull_policy: tuple[str, ...] = ()
    user: str = ""
    platform: str = ""


class Credential(NamedTuple):
    """A registry that the job may log in to."""

    registry: str
    username: str
    password: str


class Job(NamedTuple):
    """One job."""

    id: int
    server: str
    project_id: int
    project_path: str
    protected: bool
    timeout_seconds: int
    image: Image | None
    services: tuple[Image, ...]
    variables: tuple[Variable, ...]
    credentials: tuple[Credential, ...]
    #: The value of the variable DOCKER_AUTH_CONFIG.
    auth_config: str
    #: Whether the runner updates an existing checkout rather than making a new one.
    fetches: bool
    #: Whether the job wants to see what its services say.
    debugs_services: bool

    @property
    def key(self) -> str:
        """The job's name on this machine, the same for each attempt and for each of its stages."""
        return f"{self.id}-{hashlib.sha256(self.server.encode()).hexdigest()[:8]}"

    @property
    def public_variables(self) -> dict[str, str]:
        """What everybody may see, with references to other such variables resolved; nothing secret."""
        raw = {variable.key: variable.value for variable in self.variables if variable.public}
        return {
            variable.key: variable.value if variable.raw else expand(variable.value, raw)
            for variable in self.variables
            if variable.public
        }


def expand(text: str, values: Mapping[str, str]) -> str:
    """Replace `$NAME` and `${NAME}`; a name without a value becomes empty, as the runner does it."""
    return _NAME.sub(lambda match: values.get(match[1] or match[2], ""), text)


def load(environ: Mapping[str, str] = os.environ) -> Job:
    """Read the job that this stage is for.

    Raises:
        SystemFailureError: there is no such file, or it is not a job.
    """
    path = environ.get("JOB_RESPONSE_FILE", "")
    if not path:
        raise SystemFailureError(
            "JOB_RESPONSE_FILE is not set; this program is started by GitLab Runner 14.1 or newer"
        )
    try:
        with open(path, "rb") as file:
            data = file.read(RESPONSE_BYTES_MAX + 1)
    except OSError as error:
        raise SystemFailureError(f"cannot read JOB_RESPONSE_FILE {path}: {error.strerror}") from error
    if len(data) > RESPONSE_BYTES_MAX:
        raise SystemFailureError(f"JOB_RESPONSE_FILE is larger than {RESPONSE_BYTES_MAX} bytes")
    try:
        return parse(json.loads(data))
    except (ValueError, RecursionError) as error:
        raise SystemFailureError(f"JOB_RESPONSE_FILE holds no job: {error}") from error


def parse(response: object) -> Job:
    """Read a job out of GitLab's answer to the runner.

    Raises:
        ValueError: it is not one.
    """
    table = _table(response, "the answer")
    info = _table(table.get("job_info"), "job_info")
    git = _table(table.get("git_info"), "git_info")
    runner = _table(table.get("runner_info"), "runner_info")
    # The runner writes the password into the URL; only the place is taken from it.
    repository = urlsplit(_text(git.get("repo_url"), "git_info.repo_url"))
    variables = _variables(table.get("variables"), "variables")
    image = _image(table["image"], "image") if table.get("image") else None
    strategy = _last(variables, "GIT_STRATEGY")
    return Job(
        id=_positive(table.get("id"), "id"),
        server=repository.hostname or "",
        project_id=_positive(info.get("project_id"), "job_info.project_id"),
        project_path=repository.path.strip("/").removesuffix(".git"),
        protected=git.get("protected") is True,
        timeout_seconds=min(_positive(runner.get("timeout"), "runner_info.timeout"), TIMEOUT_SECONDS_MAX),
        image=image if image and image.name else None,
        services=tuple(
            _image(item, f"services[{index}]")
            for index, item in enumerate(_list(table.get("services"), "services"))
        ),
        variables=variables,
        credentials=_credentials(table.get("credentials")),
        auth_config=_last(variables, "DOCKER_AUTH_CONFIG"),
        debugs_services=_last(variables, "CI_DEBUG_SERVICES").lower() in {"1", "true"},
        fetches=strategy == "fetch" if strategy else table.get("allow_git_fetch") is True,
    )


def _last(variables: Sequence[Variable], key: str) -> str:
    """Return the value that counts where a variable is given more than once."""
    return next((variable.value for variable in reversed(variables) if variable.key == key), "")


def _table(value: object, where: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"{where} is not an object")  # noqa: TRY004
    return value


def _list(value: object, where: str) -> Sequence[Any]:
    if value is None:
        return ()
    if not isinstance(value, list):
        raise ValueError(f"{where} is not a list")  # noqa: TRY004
    return value


def _text(value: object, where: str) -> str:
    if value is None:
        return ""
    if not isinstance(value, str) or "\0" in value:
        raise ValueError(f"{where} is not a text")
    return value


def _texts(value: object, where: str) -> tuple[str, ...]:
    return tuple(_text(item, where) for item in _list(value, where))


def _positive(value: object, where: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value <= 0:
        raise ValueError(f"{where} is not a positive number")
    return value


def _image(value: object, where: str) -> Image:
    table = _table(value, where)
    entrypoint = table.get("entrypoint")
    docker = _table(_table(table.get("executor_opts") or {}, where).get("docker") or {}, where)
    return Image(
        name=_text(table.get("name"), f"{where}.name"),
        entrypoint=None if not entrypoint else _texts(entrypoint, f"{where}.entrypoint"),
        command=_texts(table.get("command"), f"{where}.command"),
        # One text may hold several aliases.
        aliases=tuple(re.findall(r"[^\s,]+", _text(table.get("alias"), f"{where}.alias"))),
        variables=_variables(table.get("variables"), f"{where}.variables"),
        pull_policy=_texts(table.get("pull_policy"), f"{where}.pull_policy"),
        user=_text(docker.get("user"), f"{where}.executor_opts.docker.user"),
        platform=_text(docker.get("platform"), f"{where}.executor_opts.docker.platform"),
    )


def _variables(value: object, where: str) -> tuple[Variable, ...]:
    variables = []
    for item in _list(value, where):
        table = _table(item, where)
        secret = table.get("masked") is True or table.get("file") is True
        variables.append(
            Variable(
                key=_text(table.get("key"), f"{where}.key"),
                value=_text(table.get("value"), f"{where}.value"),
                public=table.get("public") is True and not secret,
                raw=table.get("raw") is True,
            )
        )
    return tuple(variables)


def _credentials(value: object) -> tuple[Credential, ...]:
    credentials = []
    for item in _list(value, "credentials"):
        table = _table(item, "credentials")
        if _text(table.get("type"), "credentials.type").lower() == "registry":
            url = _text(table.get("url"), "credentials.url")
            credentials.append(
                Credential(
                    registry=url.split("://", 1)[-1].rstrip("/"),
                    username=_text(table.get("username"), "credentials.username"),
                    password=_text(table.get("password"), "credentials.password"),
                )
            )
    return tuple(credentials)
