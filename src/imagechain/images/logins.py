"""Where the images of a repository are put, and with which logins: the job's own registry, and more.

Logins come from variables that GitLab gives to the job, and go nowhere but to their registry: never onto a
command line, never into a message.
"""

from collections.abc import Mapping, Sequence

import msgspec

from imagechain.config import ConfigError, ImageRegistrySettings
from imagechain.refs import Reference, ReferenceError, parse_reference
from imagechain.registry import Credential


class Places(msgspec.Struct, frozen=True):
    """Where one image is put."""

    #: Repositories; the job's own registry first, which others look at.
    repositories: tuple[Reference, ...]
    #: By the host of a registry.
    logins: dict[str, Credential]
    #: Lines on what was left out, and why.
    skipped: tuple[str, ...] = ()


def find_places(name: str, registries: Sequence[ImageRegistrySettings], environ: Mapping[str, str]) -> Places:
    """Find where an image is put.

    Args:
        name: of the image, below the address of each registry.
        registries: the settings' own, besides that of the job.
        environ: has the logins, and the job's registry (`CI_REGISTRY_IMAGE`).

    Raises:
        ConfigError: there is no registry at all, the login of one is missing, or the name is none.
    """
    addresses: list[str] = []
    logins: dict[str, Credential] = {}
    skipped: list[str] = []
    if own := environ.get("CI_REGISTRY_IMAGE"):
        addresses.append(own)
        user, password = environ.get("CI_REGISTRY_USER"), environ.get("CI_REGISTRY_PASSWORD")
        if user and password:
            logins[_repository(own, name).domain] = Credential(user, password)
    for table in registries:
        if table.username_variable:
            user, password = environ.get(table.username_variable), environ.get(table.password_variable)
            if not user or not password:
                missing = f"{table.username_variable} or {table.password_variable} is not set"
                if not table.optional:
                    raise ConfigError(
                        f"no login for {table.address}: {missing}; set both in GitLab (Settings, CI/CD, "
                        "Variables; protected ones exist on protected refs only), or set optional = true"
                    )
                skipped.append(f"{table.address} is left out: {missing}")
                continue
            logins.setdefault(_repository(table.address, name).domain, Credential(user, password))
        addresses.append(table.address)
    if not addresses:
        raise ConfigError(
            "there is no registry to put images to; run this in a job of GitLab (CI_REGISTRY_IMAGE), or name "
            "one in imagechain.toml ([[image.registry]], address)"
        )
    repositories = dict.fromkeys(_repository(address, name) for address in addresses)
    return Places(tuple(repositories), logins, tuple(skipped))


def image_name(name: str | None, environ: Mapping[str, str]) -> str:
    """Choose the name of the image: the one that was given, or that of the job, or of the project.

    Raises:
        ConfigError: there is none.
    """
    found = name or environ.get("IMAGE_NAME") or environ.get("CI_PROJECT_NAME", "")
    if not found:
        raise ConfigError("which image? Give its name, or set IMAGE_NAME")
    return found


def _repository(address: str, name: str) -> Reference:
    try:
        reference = parse_reference(f"{address}/{name.lower()}")
    except ReferenceError as error:
        raise ConfigError(f"{name!r} names no image below {address}: {error}") from error
    if reference.name != f"{address}/{name.lower()}":
        raise ConfigError(f"{name!r} must be a name without tag and digest, and {address} have a registry")
    return reference
