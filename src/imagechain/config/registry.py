"""The tables `[registry."HOST"]`: how each registry is talked to."""

import msgspec


class RegistrySettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A table `[registry."HOST"]`: how one registry is talked to."""

    #: Logins in the format of docker and podman; by default the usual places are looked at.
    auth_file: str = ""
    #: Plain HTTP.
    insecure: bool = False
    requests_per_minute_max: int = 600
    #: Of the pulls that it grants, so many percent are left to hosts and builds: mirroring and vetting wait.
    pulls_reserved_percent: int = 10

    def __post_init__(self) -> None:
        """Refuse a budget that lets nothing through, or means nothing."""
        if self.requests_per_minute_max < 1:
            raise ValueError("requests_per_minute_max must be at least 1")
        if not 0 <= self.pulls_reserved_percent <= 100:
            raise ValueError("pulls_reserved_percent must be from 0 to 100")
