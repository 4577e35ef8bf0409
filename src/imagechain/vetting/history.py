"""The history of tags: what each named, and when. Pure.

A registry cannot be asked for its past, so every look at a tag is kept (contract: record from the first day).
Of looks that found the same digest only the first and the last matter.
"""

from collections.abc import Iterable

import msgspec

from imagechain.vetting.values import Sighting


class Run(msgspec.Struct, frozen=True, kw_only=True):
    """A digest for as long as a tag named it."""

    digest: str
    first: Sighting
    last: Sighting
    #: The latest of what each clock said of the digest; a push without a change moves some of them.
    clocks: dict[str, float]


class History:
    """The sightings of any number of tags, in the order of their times."""

    def __init__(self, sightings: Iterable[Sighting] = ()) -> None:
        self._sightings: dict[tuple[str, str], list[Sighting]] = {}
        for sighting in sorted(sightings, key=lambda each: each.seen_at):
            self._sightings.setdefault((sighting.ref, sighting.platform), []).append(sighting)

    def add(self, sighting: Sighting) -> None:
        """Add a look, wherever its time puts it."""
        seen = self._sightings.setdefault((sighting.ref, sighting.platform), [])
        seen.append(sighting)
        if len(seen) > 1 and seen[-2].seen_at > sighting.seen_at:
            seen.sort(key=lambda each: each.seen_at)

    def platforms(self, ref: str) -> list[str]:
        """List the platforms that a tag was looked at for."""
        return sorted(platform for known, platform in self._sightings if known == ref)

    def runs(self, ref: str, platform: str) -> list[Run]:
        """Give what a tag named, one after another."""
        runs: list[Run] = []
        for seen in self._sightings.get((ref, platform), ()):
            if runs and runs[-1].digest == seen.digest:
                clocks = runs[-1].clocks | seen.clocks
                runs[-1] = msgspec.structs.replace(runs[-1], last=seen, clocks=clocks)
            else:
                runs.append(Run(digest=seen.digest, first=seen, last=seen, clocks=seen.clocks))
        return runs

    def moves(self, ref: str, platform: str) -> list[float]:
        """Give the times at which a tag was first seen to name something new."""
        return [run.first.seen_at for run in self.runs(ref, platform)[1:]]

    def essential(self) -> list[Sighting]:
        """Give the sightings that say all there is: of each run the first and the last."""
        kept: list[Sighting] = []
        for ref, platform in self._sightings:
            for run in self.runs(ref, platform):
                kept.append(run.first)
                if run.last is not run.first:
                    kept.append(msgspec.structs.replace(run.last, clocks=run.clocks))
        return sorted(kept, key=lambda each: each.seen_at)
