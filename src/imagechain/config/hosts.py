"""The table `[hosts]`: which containers of this host are kept on the newest image, when, and who is told."""

from typing import Literal
from urllib.parse import urlsplit

import msgspec

from imagechain.chain import Policy
from imagechain.config.values import Duration

PARALLEL_MAX = 64


class HostHooks(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table `[hosts.hooks]`: commands around each update, as a program and its arguments."""

    #: Before anything is touched; another exit code than 0 leaves the container as it is for this time.
    before: tuple[str, ...] = ()
    #: When the new container has passed the gate; another exit code than 0 brings the old one back.
    after: tuple[str, ...] = ()
    timeout: Duration = Duration(60)


class HostNotify(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table `[hosts.notify]`: who is told what was changed, or could not be."""

    #: A file, or systemd credential, with the URL that a JSON message is posted to.
    webhook_file: str = ""
    #: Addresses; needs a sendmail program.
    mail: tuple[str, ...] = ()
    #: One entry for each event in the journal of systemd.
    journal: bool = True


class HostSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The table `[hosts]`: which containers are kept on the newest image, and how."""

    #: Whose containers; none: those of the user who runs this.
    users: tuple[str, ...] = ()
    #: All containers, or only those with the label `dev.imagechain.update=true`; `=false` always opts out.
    select: Literal["all", "labelled"] = "all"
    #: A new container must run and be healthy this long.
    settle: Duration = Duration(10)
    #: Containers that are made anew at once.
    parallel: int = 1
    #: After so many containers came back on their old image, a run stops.
    rollbacks_max: int = 1
    #: An image must have been seen for this long.
    cooldown: Duration = Duration(0)
    #: Cron expressions: containers are touched in every minute that one of them names, in local time;
    #: none: always.
    windows: tuple[str, ...] = ()
    #: Previous images of each container that are kept.
    keep_images: int = 1
    hooks: HostHooks = HostHooks()
    notify: HostNotify = HostNotify()

    #: The service that is told what runs here, such as `https://imagechain.example.com`; empty: none is.
    report_to: str = ""
    #: A file, or systemd credential, with what `imagechain hosts token NAME` printed for this host.
    report_token_file: str = ""

    def __post_init__(self) -> None:
        """Refuse what nothing could be updated by, or told to."""
        parts = urlsplit(self.report_to)
        if self.report_to and (parts.scheme not in {"http", "https"} or not parts.hostname or parts.query):
            raise ValueError(
                f"report_to {self.report_to!r} is no address; write one like https://imagechain.example.com"
            )
        if self.report_to and not self.report_token_file:
            raise ValueError(
                "report_to needs report_token_file: `imagechain hosts token NAME`, where the service is, "
                "prints the token for it"
            )
        Policy(windows=self.windows)
        if not 1 <= self.parallel <= PARALLEL_MAX:
            raise ValueError(f"parallel must be from 1 to {PARALLEL_MAX}")
        if self.rollbacks_max < 1:
            raise ValueError("rollbacks_max must be at least 1")
        if self.keep_images < 0:
            raise ValueError("keep_images must not be negative")
        if len(set(self.users)) != len(self.users):
            raise ValueError("users names somebody twice")
