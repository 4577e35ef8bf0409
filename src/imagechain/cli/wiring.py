"""What `serve`, `sync` and `doctor` are put together from: the clients and secrets that the settings name."""

import hashlib
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager

from imagechain.config import ConfigError, Settings, read_secret, secret_path
from imagechain.gitlab.client import Client, connect
from imagechain.gitlab.hook_secrets import HookOwner, HookSecrets
from imagechain.registry import RegistryClient, read_registries, usual_auth_files
from imagechain.service.forge import GitLabForge
from imagechain.service.ports import Cache, HookSettings
from imagechain.service.registry_images import GitLabLogins
from imagechain.service.upkeep import EVENTS, wanted_hook


@asynccontextmanager
async def open_gitlab(
    settings: Settings, cache: Cache, *, is_patient: bool = True, now: Callable[[], float] = time.time
) -> AsyncIterator[tuple[Client, GitLabForge]]:
    """Talk to the GitLab of the settings while the block runs.

    Raises:
        ConfigError: a setting is missing, or a file that it names cannot be read.
    """
    async with connect(settings.gitlab, os.environ, is_patient=is_patient, now=now) as client:
        yield client, GitLabForge(client, settings, cache, settings.policy.parsed_platforms()[0])


def registry_client(settings: Settings, forge: GitLabForge) -> RegistryClient:
    """Make a client of all registries, which GitLab's own takes GitLab's token from."""
    token_path = secret_path(settings.gitlab.token_file, os.environ)
    return RegistryClient(
        settings=settings.registry,
        auth_files=usual_auth_files(os.environ),
        fallbacks=GitLabLogins(lambda: forge.registry_host, lambda: read_secret(token_path)),
        registries=read_registries(os.environ),
    )


def hook_settings(settings: Settings) -> tuple[Callable[[HookOwner], HookSettings], str]:
    """Say how each hook is to be, and what changes when all are to be set again.

    Raises:
        ConfigError: the key of the hooks is missing or too short.
    """
    key = named_secret(settings.server.hook_key_file, "server.hook_key_file").encode()
    try:
        secrets = HookSecrets(key)
    except ValueError as error:
        raise ConfigError(f"server.hook_key_file: {error}") from error
    # Of a secret that nobody has: it tells a new key, and no more.
    told = f"{settings.server.url} {sorted(EVENTS)} {secrets.token(0)}"
    return wanted_hook(settings.server.url, secrets), hashlib.sha256(told.encode()).hexdigest()


def named_secret(name: str, setting: str) -> str:
    """Read the secret that a setting names.

    Raises:
        ConfigError: it names none, or none that can be read.
    """
    if not name:
        raise ConfigError(
            f"{setting} is not set; make a secret with `openssl rand -hex 32` and name its file"
        )
    return read_secret(secret_path(name, os.environ))


class NoCache:
    """The store is the service's; what is done once is read once."""

    async def cached(self, kind: str, keys: Sequence[str]) -> Mapping[str, bytes]:  # noqa: ARG002
        """Have nothing."""
        return {}

    async def cache(self, kind: str, values: Mapping[str, bytes]) -> None:
        """Keep nothing."""
