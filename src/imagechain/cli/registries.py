"""The client that commands ask registries with, by what this machine and the settings say."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from imagechain.config import Settings
from imagechain.registry import Credential, RegistryClient, read_registries, usual_auth_files


def registry_client(
    settings: Settings,
    environ: Mapping[str, str],
    *,
    auth_files: Sequence[Path] | None = None,
    fallbacks: Mapping[str, Credential] | None = None,
    leaves_reserve: bool = False,
) -> RegistryClient:
    """Make a client; nothing is asked yet.

    Args:
        settings: with the tables `[registry."HOST"]`.
        environ: of the user whose logins and `registries.conf` count.
        auth_files: where logins are; None: the usual places.
        fallbacks: by host, the login where no file has one.
        leaves_reserve: whether it stops pulling while the reserve of a quota is left (`RegistryClient`).
    """
    return RegistryClient(
        settings=settings.registry,
        auth_files=usual_auth_files(environ) if auth_files is None else auth_files,
        fallbacks=fallbacks,
        registries=read_registries(environ),
        leaves_reserve=leaves_reserve,
    )
