"""The history of tags: what each named, and when. Pure.

A registry cannot be asked for its past, so every look at a tag is kept (contract: record from the first day).
Of looks that found the same digest only the first and the last matter.
"""

from collections.abc import Iterable, Mapping

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

    def runs(self, ref: str, platform: str) -> list[Run]:
        """Give what a tag named, one after another; without a platform, by HEADs alone.

        A look at the tag alone speaks of its platforms too, where it found an index that was read at some
        other time: that holds what it held then.
        """
        seen = self._sightings.get((ref, platform), [])
        heads = self._sightings.get((ref, ""), []) if platform else []
        read = {each.index_digest or each.digest: each for each in seen}
        told = [
            msgspec.structs.replace(read[head.digest], seen_at=head.seen_at, clocks={})
            for head in heads
            if head.digest in read
        ]
        return _runs(sorted([*seen, *told], key=lambda each: each.seen_at) if told else seen)

    def known_since(self, ref: str, digest: str) -> float | None:
        """Tell when a tag was first seen to name a digest, of an index or of a manifest; None: never yet."""
        return min(
            (
                each.seen_at
                for (known, _), seen in self._sightings.items()
                if known == ref
                for each in seen
                if digest in {each.digest, each.index_digest}
            ),
            default=None,
        )

    def moves(self, ref: str, platform: str) -> list[float]:
        """Give the times at which a tag was first seen to name something new."""
        return [run.first.seen_at for run in self.runs(ref, platform)[1:]]

    def essential(self) -> list[Sighting]:
        """Give the sightings that say all there is: of each run the first and the last."""
        kept: list[Sighting] = []
        for seen in self._sightings.values():
            for run in _runs(seen):
                kept.append(run.first)
                if run.last is not run.first:
                    kept.append(msgspec.structs.replace(run.last, clocks=run.clocks))
        return sorted(kept, key=lambda each: each.seen_at)


def _runs(seen: Iterable[Sighting]) -> list[Run]:
    runs: list[Run] = []
    for each in seen:
        if runs and runs[-1].digest == each.digest:
            clocks = runs[-1].clocks | each.clocks
            last = _with_what_was_said(runs[-1].last, each)
            runs[-1] = msgspec.structs.replace(runs[-1], last=last, clocks=clocks)
        else:
            runs.append(Run(digest=each.digest, first=each, last=each, clocks=each.clocks))
    return runs


def _with_what_was_said(before: Sighting, after: Sighting) -> Sighting:
    """Add to a look what it did not ask for, and an earlier one at the same digest did."""
    base = after if after.base else before
    return msgspec.structs.replace(
        after,
        version=after.version or before.version,
        base=base.base,
        base_digest=base.base_digest,
        index_digest=after.index_digest or before.index_digest,
    )


def look_at_tag(
    ref: str, digest: str, at: float, platforms: Mapping[str, str] | None = None
) -> list[Sighting]:
    """Make sightings of what a part saw of a tag.

    Args:
        ref: the reference, normalised.
        digest: what the tag named.
        at: when (Unix time).
        platforms: by platform, the digests in it, where it was an index and has been read.
    """
    return [
        Sighting(ref=ref, digest=digest, seen_at=at),
        *(
            Sighting(ref=ref, platform=platform, digest=found, index_digest=digest, seen_at=at)
            for platform, found in (platforms or {}).items()
        ),
    ]
