"""The tables of the service: `[gitlab]`, `[server]`, `[store]`."""

from urllib.parse import urlsplit

import msgspec

#: Most branches that are tracked besides the default one; GitLab refuses queries for many more.
BRANCHES_MAX = 20


class GitLabSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table `[gitlab]`: which projects of which GitLab make up the chain."""

    url: str = ""
    #: Paths of groups; their subgroups belong to them.
    groups: tuple[str, ...] = ()
    #: Globs of project paths; if there are any, only these count.
    include: tuple[str, ...] = ()
    #: Globs of project paths that are left out.
    exclude: tuple[str, ...] = ()
    #: Branches that are tracked besides the default branch of each project.
    branches: tuple[str, ...] = ()
    #: Path of a file, or the name of a systemd credential.
    token_file: str = ""
    #: Certificates of an own authority, in PEM; by default those of the system count.
    ca_file: str = ""

    def __post_init__(self) -> None:
        """Refuse an address that no request can be made from, and more branches than fit into a query."""
        if len(self.branches) > BRANCHES_MAX:
            raise ValueError(f"branches has more than {BRANCHES_MAX} entries; name fewer")
        if self.url:
            parts = urlsplit(self.url)
            if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
                raise ValueError(f"url {self.url!r} is no address; write one like https://gitlab.example.com")
            if parts.username is not None:
                raise ValueError("url must not hold a name or a password; put the token into token_file")


class ServerSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table `[server]`: the service's HTTP."""

    #: Address and port that it listens on.
    listen: str = "127.0.0.1:8080"
    #: The service as GitLab reaches it; hooks go to `<url>/hooks/gitlab`. Empty: no hooks are installed.
    url: str = ""
    #: Path of a file, or the name of a systemd credential; each project's hook secret is derived from it.
    hook_key_file: str = ""
    #: The same; the token is needed by requests that change something.
    api_token_file: str = ""

    def __post_init__(self) -> None:
        """Refuse an address that nothing can listen on, or be sent to."""
        host, colon, port = self.listen.rpartition(":")
        if not (colon and host and port.isdecimal() and int(port) < 65_536):
            raise ValueError(f"listen {self.listen!r} is no address; write one like 127.0.0.1:8080")
        parts = urlsplit(self.url)
        if self.url and (parts.scheme not in {"http", "https"} or not parts.hostname or parts.query):
            raise ValueError(f"url {self.url!r} is no address; write one like https://imagechain.example.com")


class StoreSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table `[store]`."""

    #: `sqlite:////PATH`, or `postgresql://...`.
    url: str = "sqlite:////var/lib/imagechain/imagechain.db"
