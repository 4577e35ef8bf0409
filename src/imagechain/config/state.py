"""Where parts that run on a machine keep what they know: histories of tags, held digests, journals."""

import os
from collections.abc import Mapping
from pathlib import Path

#: Of root; everybody else has a folder of their own.
SYSTEM_FOLDER = Path("/var/lib/imagechain")


def state_folder(state_dir: str, environ: Mapping[str, str]) -> Path:
    """Tell the folder: `state_dir`, else that of a systemd unit, else the system's, or the user's (XDG)."""
    if state_dir:
        return Path(state_dir)
    if unit := environ.get("STATE_DIRECTORY"):
        return Path(unit.partition(":")[0])
    if os.geteuid() == 0:
        return SYSTEM_FOLDER
    state = environ.get("XDG_STATE_HOME")
    return (Path(state) if state else Path(environ.get("HOME", "/")) / ".local/state") / "imagechain"
