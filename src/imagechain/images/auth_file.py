"""A private file with the logins of a job, for builders: never on a command line, gone with its folder.

The format is that of docker and podman (containers-auth.json(5)). What people logged in to on this machine,
and the variable that GitLab's runner reads (`DOCKER_AUTH_CONFIG`), stay known beside the job's own logins.
"""

import base64
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from imagechain.config import ConfigError
from imagechain.refs import DEFAULT_DOMAIN
from imagechain.registry import Credential

#: docker looks for it under this name in the folder that it is told.
FILE_NAME = "config.json"
_VARIABLE = "DOCKER_AUTH_CONFIG"
#: Largest auth file that is read.
_FILE_BYTES_MAX = 1024 * 1024
#: How docker calls Docker Hub.
_DOCKER_HUB_KEY = "https://index.docker.io/v1/"


class _AuthFile(msgspec.Struct, omit_defaults=True):
    auths: dict[str, dict[str, Any]] = {}
    cred_helpers: dict[str, str] = msgspec.field(default={}, name="credHelpers")
    creds_store: str = msgspec.field(default="", name="credsStore")


def write_auth_file(
    folder: Path, logins: Mapping[str, Credential], environ: Mapping[str, str], usual_files: Sequence[Path]
) -> Path | None:
    """Write the logins into a new file that only this user may read.

    Args:
        folder: Where; it is removed by whoever made it.
        logins: By the host of a registry; they win.
        environ: May have more, in the variable of GitLab's runner.
        usual_files: Where podman and docker keep logins, in the order in which they count.

    Returns:
        The file; None where there is nothing to add to what builders find themselves.

    Raises:
        ConfigError: a file, or the variable, is no auth file. The message never holds what it says.
    """
    given = environ.get(_VARIABLE, "")
    if not logins and not given:
        return None
    merged = _AuthFile(auths={}, cred_helpers={})
    sources = [_read(file) for file in usual_files if file.is_file()]
    if given:
        sources.insert(0, _decode(given.encode(), f"the variable {_VARIABLE}"))
    for source in reversed(sources):
        merged.auths |= source.auths
        merged.cred_helpers |= source.cred_helpers
        merged.creds_store = source.creds_store or merged.creds_store
    for host, login in logins.items():
        text = base64.b64encode(f"{login.username}:{login.password}".encode()).decode()
        keys = (host, _DOCKER_HUB_KEY) if host == DEFAULT_DOMAIN else (host,)
        merged.auths |= {key: {"auth": text} for key in keys}
        # A helper for the host would be asked first.
        merged.cred_helpers.pop(host, None)
    file = folder / FILE_NAME
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as stream:
        stream.write(msgspec.json.encode(merged))
    return file


def _read(file: Path) -> _AuthFile:
    try:
        with file.open("rb") as stream:
            data = stream.read(_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"cannot read the auth file {file}: {error.strerror}; mend or remove it") from error
    if len(data) > _FILE_BYTES_MAX:
        raise ConfigError(f"the auth file {file} is larger than {_FILE_BYTES_MAX} bytes; mend or remove it")
    return _decode(data or b"{}", f"the auth file {file}")


def _decode(data: bytes, where: str) -> _AuthFile:
    try:
        return msgspec.json.decode(data, type=_AuthFile)
    except (msgspec.DecodeError, UnicodeDecodeError):
        # Without the cause: it may show a secret.
        raise ConfigError(f'{where} is no auth file: it has to be like {{"auths": {{...}}}}') from None
