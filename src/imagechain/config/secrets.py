"""Tokens and keys: from files or systemd credentials, never from the settings themselves."""

from collections.abc import Mapping
from pathlib import Path

from imagechain.config.values import ConfigError

#: Largest file with a token or a key that is read.
SECRET_BYTES_MAX = 64 * 1024

#: systemd puts the credentials of a service into this folder (systemd.exec, LoadCredential=).
_CREDENTIALS_VARIABLE = "CREDENTIALS_DIRECTORY"


def secret_path(name: str, environ: Mapping[str, str]) -> Path:
    """Tell which file `token_file` and the like mean: the systemd credential of that name, or a path."""
    folder = environ.get(_CREDENTIALS_VARIABLE)
    if folder and "/" not in name and (credential := Path(folder) / name).exists():
        return credential
    return Path(name)


def read_secret(path: Path) -> str:
    """Read a token or a key from its file, without the white space around it.

    Raises:
        ConfigError: it cannot be read, or is empty. The message never holds what the file says.
    """
    try:
        with path.open("rb") as file:
            data = file.read(SECRET_BYTES_MAX + 1)
        text = data.decode("ascii").strip()
    except OSError as error:
        raise ConfigError(
            f"cannot read the secret file {path}: {error.strerror}; name a file that this user may read, "
            "or a systemd credential (LoadCredential=)"
        ) from error
    except UnicodeDecodeError:
        # Without the cause: the error would show the secret's bytes.
        raise ConfigError(f"the secret file {path} holds more than a line of ASCII text") from None
    if not text or len(data) > SECRET_BYTES_MAX or not text.isprintable():
        raise ConfigError(f"the secret file {path} must hold one line with the secret, and nothing else")
    return text
