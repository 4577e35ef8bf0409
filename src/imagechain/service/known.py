"""What a replica can tell of the chain: its own knowledge, or what the one that acts has written last."""

from collections.abc import Iterator, Mapping
from itertools import islice

import msgspec

from imagechain.chain import Chain, describe_pause
from imagechain.service.ports import Scan

#: Registries whose images cannot be read that are named.
_REGISTRIES_MAX = 4
#: So many changes without a webhook are no coincidence any more.
_UNANNOUNCED_MIN = 3
#: Projects on which GitLab fails that are named.
_FAILING_TOLD_MAX = 10


class Known(msgspec.Struct, frozen=True, kw_only=True):
    """What is known at one moment; must not be changed."""

    chain: Chain
    scan: Scan
    #: Digests of images by reference, as they were read last.
    digests: Mapping[str, str] = {}
    #: Whether another replica acts, and this is what it had written.
    is_stored: bool = False
    #: Ended pipelines that no webhook announced.
    unannounced: int = 0
    #: Why images could not be read when they were looked at last, by reference.
    unchecked: Mapping[str, str] = {}
    #: How GitLab fails on a project while it answers otherwise, by source.
    failing: Mapping[str, str] = {}
    #: Why GitLab refuses webhooks, by the path of the project or group.
    unhooked: Mapping[str, str] = {}

    @property
    def notices(self) -> tuple[str, ...]:
        """Say what a person should know beside the states."""
        notices = []
        if self.is_stored:
            notices.append("another replica acts; this is what it had written some seconds ago")
        if (pause := self.chain.facts.pause_of_all) is not None:
            notices.append(f"{describe_pause(None, pause)}; nothing is started until `imagechain resume`")
        if self.unannounced >= _UNANNOUNCED_MIN:
            notices.append(
                f"webhooks do not arrive: {self.unannounced} ended pipelines were found by reconcile only; "
                "check that GitLab reaches server.url (in GitLab: Settings > Webhooks > Recent events), or "
                "run `imagechain doctor`"
            )
        if self.unhooked:
            path, why = min(self.unhooked.items())
            notices.append(
                f"GitLab refuses {len(self.unhooked)} webhook{'s' * (len(self.unhooked) > 1)}, so that what "
                f"happens there is found by reconcile only; {path}: {why}"
            )
        return (*notices, *self._of_projects(), *self._of_registries())

    def _of_projects(self) -> Iterator[str]:
        """Say on which projects GitLab fails."""
        for source, why in islice(self.failing.items(), _FAILING_TOLD_MAX):
            yield f"{source}: GitLab fails on it, and is asked again ({why})"
        if (more := len(self.failing) - _FAILING_TOLD_MAX) > 0:
            yield f"{more} more projects on which GitLab fails; the log names them"

    def _of_registries(self) -> Iterator[str]:
        """Say which registries do not tell what images are, each with one of its messages."""
        of_hosts: dict[str, list[str]] = {}
        for name in sorted(self.unchecked):
            of_hosts.setdefault(name.partition("/")[0], []).append(name)
        for host, names in islice(of_hosts.items(), _REGISTRIES_MAX):
            yield (
                f"{len(names)} image{'s' * (len(names) > 1)} of {host} cannot be read, so that no change is "
                f"seen there: {self.unchecked[names[0]]}"
            )
