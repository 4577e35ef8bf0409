"""CI configurations of projects: where they stand, and what GitLab makes of those that include others.

GitLab itself follows `include`, `extends`, components and templates: its lint API gives what comes of it.
"""

import re

import msgspec

from imagechain.discovery.ci import FILE_NAME
from imagechain.gitlab import rest
from imagechain.gitlab.client import Client
from imagechain.gitlab.errors import OverloadedError, PermanentError
from imagechain.gitlab.files import Checkout
from imagechain.gitlab.values import Lint

_INCLUDES = re.compile(r"^(?:include|\"include\"|'include')\s*:", re.MULTILINE)


class Foreign(msgspec.Struct, frozen=True):
    """A file of another project, or a template, that a CI configuration includes."""

    #: As GitLab calls it: `file`, `component`, `template`, `remote`.
    kind: str
    location: str
    project: str = ""
    ref: str = ""

    @property
    def name(self) -> str:
        """What people write for it: `group/ci@v1:/build.yml`."""
        if self.kind != "file":
            return self.location or self.project
        ref = f"@{self.ref}" if self.ref else ""
        return f"{self.project}{ref}:/{self.location.lstrip('/')}"


class Linted(msgspec.Struct, frozen=True):
    """What GitLab made of a CI configuration that includes others."""

    #: Of the YAML files of the branch: with another one it must be asked for again.
    fingerprint: str
    #: None: GitLab gave none; `problems` say why.
    merged_yaml: str | None
    foreign: tuple[Foreign, ...] = ()
    problems: tuple[str, ...] = ()
    #: Whether to ask again the next time, because GitLab failed.
    again: bool = False


class CiPlace(msgspec.Struct, frozen=True):
    """Where the CI configuration of a project stands: in a file of its own, or elsewhere."""

    file: str
    foreign: Foreign | None = None


def ci_place(setting: str) -> CiPlace:
    """Read a project's setting `ci_config_path`: a path, `path@group/project:ref`, or an URL."""
    if "://" in setting:
        return CiPlace(FILE_NAME, Foreign("remote", setting))
    path, _, elsewhere = setting.partition("@")
    if elsewhere:
        project, _, ref = elsewhere.partition(":")
        return CiPlace(FILE_NAME, Foreign("file", path, project, ref))
    return CiPlace(setting or FILE_NAME)


def includes_others(text: str) -> bool:
    """Tell whether a CI configuration includes other files."""
    return _INCLUDES.search(text) is not None


async def ask_lint(client: Client, checkout: Checkout, commit: str, fingerprint: str) -> Linted:
    """Ask GitLab for the whole CI configuration of a commit; why there is none is a part of the answer."""
    try:
        lint = await client.send(rest.lint(checkout.project, commit))
    except PermanentError as error:
        return Linted(fingerprint, None, problems=(str(error),))
    except OverloadedError as error:
        return Linted(fingerprint, None, problems=(str(error),), again=True)
    foreign = tuple(_foreign(lint, checkout.path))
    return Linted(fingerprint, lint.merged_yaml or None, foreign, tuple(lint.errors))


def _foreign(lint: Lint, path: str) -> list[Foreign]:
    """List what is included from outside the project, each once."""
    found: dict[Foreign, None] = {}
    for include in lint.includes or ():
        project = (include.extra.project if include.extra else None) or ""
        ref = (include.extra.ref if include.extra else None) or ""
        kind = include.type
        if kind == "local":  # a file of the project whose file includes it
            kind, project = "file", include.context_project or path
        if project != path:
            found[Foreign(kind, include.location or "", project, ref)] = None
    return list(found)
