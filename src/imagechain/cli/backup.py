"""`imagechain backup`: a copy of what the service keeps, whether or not it runs."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from imagechain.cli.settings import need_service_settings
from imagechain.store import back_up

Config = Annotated[Path | None, Parameter(name="--config")]


def backup(file: Annotated[Path, Parameter(name="FILE")], /, *, config: Config = None) -> int:
    """Copy the service's database into a new file, while the service runs or not.

    Of a PostgreSQL database, it tells the command that does it.

    Args:
        file: The copy; a file that exists is not overwritten.
        config: The settings; by default imagechain.toml here, or in /etc/imagechain.
    """
    back_up(need_service_settings(config).store.url, file)
    return 0
