"""All that is needed to look after the containers of one user, as one value."""

from collections.abc import Callable
from datetime import tzinfo
from pathlib import Path

import msgspec

from imagechain.config import HostSettings
from imagechain.hosts.gate import Clock
from imagechain.hosts.podman import Podman, User
from imagechain.hosts.state import StateFolder
from imagechain.hosts.systemd import Systemd
from imagechain.registry import RegistryClient

#: Makes a client that also looks for logins in a file; None: only in the usual places.
MakeClient = Callable[[Path | None], RegistryClient]


class Host(msgspec.Struct, frozen=True, kw_only=True):
    """One user's containers, and the ways to all that is asked about them."""

    user: User
    podman: Podman
    systemd: Systemd
    state: StateFolder
    make_client: MakeClient
    settings: HostSettings
    clock: Clock
    #: Of the windows.
    timezone: tzinfo
