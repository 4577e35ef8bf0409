"""What `doctor` finds out about GitLab for a service: token, version, clock, roles, webhooks, registries.

The groups are read as `sync` reads them. Roles and features: GitLab's `doc/user/permissions.md` and the
versions in which webhooks were signed (19.0) and pipelines took inputs (18.1).
"""

import asyncio
import re
from collections import Counter
from collections.abc import AsyncIterator, Container, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime

from imagechain.chain import Source
from imagechain.cli.finding import Finding
from imagechain.cli.wiring import NoCache, open_gitlab, registry_client
from imagechain.config import ConfigError, Settings
from imagechain.gitlab import rest
from imagechain.gitlab.call import Role
from imagechain.gitlab.client import Client
from imagechain.gitlab.errors import NotFoundError
from imagechain.gitlab.values import Token
from imagechain.refs import ReferenceError, parse_reference
from imagechain.service.forge import GitLabForge
from imagechain.service.ports import Hook, Images, ImageUnchecked, RefusedError, RetryableError, Scan
from imagechain.service.registry_images import RegistryImages
from imagechain.service.upkeep import HOOKS_PATH
from imagechain.together import together

_EXPIRY_DAYS_MIN = 14
#: Signatures of webhooks that are older or newer than 300 s are refused.
_CLOCK_SECONDS_MAX = 240
_CLOCK_SECONDS_NOTED = 30
#: Projects whose webhooks are looked at: each costs a request.
_HOOKED_PROJECTS_MAX = 200
#: Images of one registry that are tried, if the first ones cannot be read.
_IMAGES_PER_REGISTRY_MAX = 3
#: How long one registry may take for them.
_REGISTRY_SECONDS_MAX = 15.0
_NAMES_MAX = 5
_VERSION = re.compile(r"(\d+)\.(\d+)")


async def examine_gitlab(settings: Settings) -> AsyncIterator[Finding]:
    """Check all that GitLab and the registries can tell.

    Raises:
        ConfigError: the settings name no GitLab, or no token that can be read.
        GitLabError: GitLab does not answer, or not to this token.
    """
    async with open_gitlab(settings, NoCache(), is_patient=False) as (client, forge):
        version = (await client.send(rest.version())).version
        yield Finding("gitlab", "ok", f"{client.url} is GitLab {version}: {_features(version)}")
        yield judge_clock(client.clock_ahead_seconds)
        async for finding in _token(client):
            yield finding
        try:
            scan = await forge.scan()
        except (RefusedError, RetryableError) as error:
            yield Finding("groups", "error", str(error))
            return
        async for finding in _roles(client, settings, scan):
            yield finding
        if scan.problems:
            yield Finding(
                "files",
                "warning",
                f"{len(scan.problems)} problems in what the images are built from",
                f"imagechain scan --group {settings.gitlab.groups[0]} lists them",
            )
        if settings.server.url:
            async for finding in _hooks(forge, settings, scan):
                yield finding
        async for finding in _registries(settings, forge, scan):
            yield finding


def _features(version: str) -> str:
    match = _VERSION.match(version)
    number = (int(match[1]), int(match[2])) if match is not None else (0, 0)
    signed = "signed webhooks" if number >= (19, 0) else "webhooks with a token (signed ones came with 19.0)"
    inputs = "pipeline inputs" if number >= (18, 1) else "no pipeline inputs (they came with 18.1)"
    return f"{signed}, {inputs}"


def judge_clock(ahead: float | None) -> Finding:
    """Tell whether GitLab's clock, so many seconds ahead of ours, is near enough."""
    if ahead is None:
        return Finding("clock", "ok", "GitLab does not tell its time")
    away = f"GitLab's clock is {abs(ahead):.0f} s {'ahead' if ahead > 0 else 'behind'}"
    remedy = "let both machines take the time from NTP"
    if abs(ahead) > _CLOCK_SECONDS_MAX:
        return Finding("clock", "error", f"{away}, so signatures of webhooks are refused", remedy)
    if abs(ahead) > _CLOCK_SECONDS_NOTED:
        return Finding("clock", "warning", away, remedy)
    return Finding("clock", "ok", "as GitLab's")


# --- the token ------------------------------------------------------------------------------------------


async def _token(client: Client) -> AsyncIterator[Finding]:
    try:
        token = await client.send(rest.current_token())
    except NotFoundError:
        # Not a personal, project or group access token: nobody tells what it may.
        yield Finding("token", "warning", "GitLab does not tell what this token may", "use an access token")
        return
    for finding in judge_token(token, datetime.now(UTC).date()):
        yield finding


def judge_token(token: Token, today: date) -> Iterator[Finding]:
    """Tell what a token lacks, and when it ends."""
    if "api" not in token.scopes:
        yield Finding(
            "token",
            "error",
            f"it has {', '.join(token.scopes) or 'no scopes'}: without `api` no pipeline can be started",
            "make a token with the scopes api and read_registry",
        )
    elif "read_registry" not in token.scopes:
        yield Finding(
            "token",
            "warning",
            "it lacks the scope `read_registry`, which GitLab's own registry wants",
            'add it, or name an auth_file for the registry ([registry."HOST"])',
        )
    else:
        yield Finding("token", "ok", f"scopes {', '.join(token.scopes)}")
    if token.expires_at is None:
        return
    days = (token.expires_at - today).days
    if days < _EXPIRY_DAYS_MIN:
        yield Finding(
            "token",
            "warning",
            f"it expires on {token.expires_at}, in {days} days",
            "make a new one and write it into gitlab.token_file; under systemd, restart the service then",
        )
    else:
        yield Finding("token", "ok", f"it expires on {token.expires_at}, in {days} days")


# --- roles ----------------------------------------------------------------------------------------------

_PURPOSES: Mapping[Role, str] = {
    "Developer": "their pipelines cannot be started",
    "Maintainer": "their webhooks cannot be kept",
}


async def _roles(client: Client, settings: Settings, scan: Scan) -> AsyncIterator[Finding]:
    roles: tuple[Role, ...] = ("Developer", "Maintainer") if settings.server.url else ("Developer",)
    paths = {project.project_id: project.path for project in scan.projects}
    lacking = {}
    for role in roles:
        held = {project.id for project in await client.all(rest.member_projects(role))}
        lacking[role] = {path for number, path in paths.items() if number not in held}
    for group in settings.gitlab.groups:
        own = sorted({path for path in paths.values() if path.startswith(f"{group}/")})
        yield judge_roles(group, own, lacking)


def judge_roles(group: str, projects: Sequence[str], lacking: Mapping[Role, Container[str]]) -> Finding:
    """Tell where in a group the token's user lacks a role.

    Args:
        group: its path.
        projects: its projects.
        lacking: by the roles that are needed, the lower one first, the projects without it.
    """
    subject = f"group {group}"
    if not projects:
        return Finding(
            subject,
            "warning",
            "no projects are seen in it",
            "check its path and the role of the token's user",
        )
    *_, highest = lacking
    for role, lack in lacking.items():
        without = [path for path in projects if path in lack]
        if without:
            return Finding(
                subject,
                "error",
                f"no {role} in {len(without)} of {len(projects)} projects ({_some(without)}): "
                f"{_PURPOSES[role]}",
                f"make the token's user a {highest} of the group",
            )
    return Finding(subject, "ok", f"{highest} in all {len(projects)} projects")


# --- webhooks -------------------------------------------------------------------------------------------


async def _hooks(forge: GitLabForge, settings: Settings, scan: Scan) -> AsyncIterator[Finding]:
    url = settings.server.url.rstrip("/") + HOOKS_PATH
    covered = []
    for group in settings.gitlab.groups:
        try:
            ours = [hook for hook in await forge.hooks(group) if hook.url.startswith(url)]
        except (RefusedError, RetryableError):
            # The free edition, or a role below Owner: each project has its own then.
            continue
        if ours:
            covered.append(group)
            yield judge_hooks(f"webhook of {group}", {group: ours})
    projects = {
        project.path: project.project_id
        for project in scan.projects
        if not any(project.path.startswith(f"{group}/") for group in covered)
    }
    if not projects:
        return
    looked_at = dict(sorted(projects.items())[:_HOOKED_PROJECTS_MAX])
    try:
        listed = await together(*(forge.hooks(number) for number in looked_at.values()))
    except (RefusedError, RetryableError) as error:
        yield Finding("webhooks", "error", str(error))
        return
    yield judge_hooks(
        "webhooks",
        {
            path: [hook for hook in hooks if hook.url == url]
            for path, hooks in zip(looked_at, listed, strict=True)
        },
    )


def judge_hooks(subject: str, hooks: Mapping[str, Sequence[Hook]]) -> Finding:
    """Tell how the webhooks are, of each project or group that should have one."""
    missing = sorted(path for path, ours in hooks.items() if not ours)
    states = Counter(hook.alert_status for ours in hooks.values() for hook in ours)
    disabled = sorted(
        path
        for path, ours in hooks.items()
        if any(hook.alert_status in {"disabled", "temporarily_disabled"} for hook in ours)
    )
    if disabled:
        return Finding(
            subject,
            "error",
            f"GitLab disabled {states['disabled'] + states['temporarily_disabled']} after failures: "
            f"{_some(disabled)}",
            "look at their recent events in GitLab, mend what they say, then run `imagechain sync`",
        )
    if missing:
        return Finding(
            subject,
            "warning",
            f"{len(missing)} of {len(hooks)} are not installed: {_some(missing)}",
            "the service installs them at its start; or run `imagechain sync`",
        )
    return Finding(subject, "ok", f"all {len(hooks)} that were looked at are installed and enabled")


# --- registries -----------------------------------------------------------------------------------------


async def _registries(settings: Settings, forge: GitLabForge, scan: Scan) -> AsyncIterator[Finding]:
    try:
        client = registry_client(settings, forge)
    except ConfigError as error:
        yield Finding("registries", "error", str(error))
        return
    async with client:
        images = RegistryImages(client, settings.policy.parsed_platforms(), NoCache())
        by_host = images_by_registry(scan.sources).items()
        for finding in await together(*(_registry(images, *one) for one in by_host)):
            yield finding


async def _registry(images: Images, host: str, references: Sequence[str]) -> Finding:
    """Find an image that a registry gives."""
    subject, failure = f"registry {host}", ""
    try:
        async with asyncio.timeout(_REGISTRY_SECONDS_MAX):
            for reference in references[:_IMAGES_PER_REGISTRY_MAX]:
                found = await images.read(reference)
                if not isinstance(found, ImageUnchecked):
                    return Finding(subject, "ok", f"answers for {reference}")
                failure = failure or found.message
    except TimeoutError:
        failure = (
            failure or f"it did not answer within {_REGISTRY_SECONDS_MAX:.0f} s; is it down or overloaded?"
        )
    return Finding(subject, "error", failure)


def images_by_registry(sources: Iterable[Source]) -> dict[str, list[str]]:
    """Sort images by the host of their registry."""
    found: dict[str, list[str]] = {}
    for source in sources:
        for image in source.images:
            try:
                host = parse_reference(image).domain
            except ReferenceError:
                continue
            found.setdefault(host, []).append(image)
    return dict(sorted(found.items()))


def _some(names: Sequence[str]) -> str:
    more = len(names) - _NAMES_MAX
    return ", ".join(names[:_NAMES_MAX]) + (f" and {more} more" if more > 0 else "")
