"""May a digest be mirrored? Not before it has been known for a while, nor before it meets its policy.

Until then the target keeps what it has. What was vetted and held is not vetted again at each run: a look at
an image costs pulls, and its verdict changes with days.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from imagechain.config import MirrorSettings
from imagechain.mirror.state import Held
from imagechain.refs import parse_platform, parse_reference
from imagechain.vetting.history import History

if TYPE_CHECKING:
    from imagechain.vetting.examine import Examiner, Vetted

#: What is held is vetted again after this time, or when the tag names something else.
VETTED_AGAIN_SECONDS = 6 * 3_600.0
#: What is vetted where the settings name no platforms.
PLATFORM_DEFAULT = "linux/amd64"


class Gate:
    """Lets digests pass; what was held is collected in `held` for whoever keeps it."""

    def __init__(
        self,
        history: History,
        examiner: "Examiner | None",
        held: Mapping[str, Held],
        *,
        now: Callable[[], float],
    ) -> None:
        """Prepare.

        Args:
            history: which digests are known, and since when.
            examiner: vets; None: no mirror asks for it.
            held: what was held before, by the tag of the target.
            now: Unix time.
        """
        self._history = history
        self._examiner = examiner
        self._now = now
        self.held = dict(held)

    async def why_not(self, mirror: MirrorSettings, source: str, target: str, digest: str) -> str:
        """Tell why what a tag of the source names now is not mirrored; empty: it may be."""
        now = self._now()
        if mirror.cooldown:
            since = self._history.known_since(source, digest)
            known_seconds = now - since if since is not None else 0.0
            if known_seconds < mirror.cooldown:
                known, wanted = known_seconds / 3_600, mirror.cooldown / 3_600
                return f"it has been known for {known:.1f} of the {wanted:g} hours of the cool-down"
        if not mirror.vet or self._examiner is None:
            return ""
        before = self.held.get(target)
        if before is not None and before.digest == digest and now < before.vetted_at + VETTED_AGAIN_SECONDS:
            return before.why
        self.held.pop(target, None)
        vetted = await _first_that_fails(self._examiner, mirror, source, digest)
        if vetted is None:
            return ""
        if vetted.problem:
            # Perhaps it can be vetted at the next run.
            return f"it could not be vetted: {vetted.problem}"
        why = _why(vetted)
        self.held[target] = Held(digest, why, now)
        return why


async def _first_that_fails(
    examiner: "Examiner", mirror: MirrorSettings, source: str, digest: str
) -> "Vetted | None":
    for platform in mirror.platforms or (PLATFORM_DEFAULT,):
        vetted = await examiner.vet(parse_reference(source), parse_platform(platform), digest=digest)
        if not vetted.met:
            return vetted
    return None


def _why(vetted: "Vetted") -> str:
    broken = [
        f"{finding.rule}: {finding.message}"
        for finding in vetted.findings
        if finding.outcome != "pass" and not finding.excused
    ]
    return f"the policy {vetted.policy} is not met: {'; '.join(broken)}"
