"""Which settings file a command reads: a local chain's, or that of the service, hosts, vetting, mirrors.

Apart from what talks to GitLab, so that commands which do not are quick to start.
"""

import os
from pathlib import Path

from imagechain.config import FILE_NAME, ConfigError, Settings, load_settings

#: Where the settings are of what is installed on a machine.
SYSTEM_FILE = Path("/etc/imagechain") / FILE_NAME


def read_settings(directory: Path) -> Settings:
    """Read the settings of the chain in `directory`; without a file, the defaults."""
    file = directory / FILE_NAME
    return load_settings(file if file.exists() else None, os.environ)


def need_service_settings(config: Path | None) -> Settings:
    """Read the settings as `read_service_settings` does, for a command that can do nothing without any.

    Raises:
        ConfigError: the settings are wrong, or there are none.
    """
    settings = read_service_settings(config)
    if config is None and settings == Settings():
        raise ConfigError(
            f"there are no settings: neither {FILE_NAME} in this folder nor {SYSTEM_FILE} says anything; "
            "give --config FILE"
        )
    return settings


def need_groups(settings: Settings) -> None:
    """Make sure that there is a group: to look after none means to take leave of all projects.

    Raises:
        ConfigError: the settings name none.
    """
    if not settings.gitlab.groups:
        raise ConfigError(
            'gitlab.groups is empty: name the groups to look after, such as groups = ["images"] in [gitlab]'
        )


def read_service_settings(config: Path | None) -> Settings:
    """Read the settings of the file that is named, else of one in this folder, else of the system's.

    Without any file, variables alone count.

    Raises:
        ConfigError: the settings are wrong.
    """
    usual = (Path(FILE_NAME), SYSTEM_FILE)
    file = config if config is not None else next((path for path in usual if path.exists()), None)
    return load_settings(file, os.environ)
