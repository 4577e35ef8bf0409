"""What a replica can tell of the chain: its own knowledge, or what the one that acts has written last."""

from collections.abc import Mapping

import msgspec

from imagechain.chain import Chain, describe_pause
from imagechain.service.ports import Scan

#: Registries whose images cannot be read that are named.
_REGISTRIES_MAX = 4
#: So many changes without a webhook are no coincidence any more.
_UNANNOUNCED_MIN = 3


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
        return (*notices, *self._of_registries())

    def _of_registries(self) -> list[str]:
        """Say which registries do not tell what images are, each with one of its messages."""
        of_hosts: dict[str, list[str]] = {}
        for name in sorted(self.unchecked):
            of_hosts.setdefault(name.partition("/")[0], []).append(name)
        return [
            f"{len(names)} image{'s' * (len(names) > 1)} of {host} cannot be read, so that no change is seen "
            f"there: {self.unchecked[names[0]]}"
            for host, names in list(of_hosts.items())[:_REGISTRIES_MAX]
        ]
