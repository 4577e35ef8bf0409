"""References that are pinned by a digest: they make no child stale, and how far they are behind is shown."""

from collections.abc import Mapping

import msgspec

from imagechain.chain.graph import Graph
from imagechain.refs import parse_reference


class Pin(msgspec.Struct, frozen=True, kw_only=True):
    """A reference that is pinned by a digest, and what its tag is now."""

    child: str
    file: str
    line: int
    #: Without the digest.
    image: str
    pinned: str
    #: Digest of the tag now; None: it is not known, or there is no tag beside the digest.
    present: str | None

    @property
    def behind(self) -> bool:
        """Whether the tag has moved on."""
        return self.present is not None and self.present != self.pinned


def find_pins(graph: Graph, digests: Mapping[str, str]) -> tuple[Pin, ...]:
    """List the references that are pinned.

    Args:
        graph: the sources.
        digests: what images are now, by reference; those that are not known are left out.
    """
    pins = []
    for dependency in (edge for edges in graph.dependencies for edge in edges if edge.pinned):
        reference = parse_reference(str(dependency.image))
        pins.append(
            Pin(
                child=dependency.child,
                file=dependency.file,
                line=dependency.line,
                image=reference.identity,
                pinned=str(reference.digest),
                present=digests.get(reference.identity) if reference.tag else None,
            )
        )
    return tuple(pins)
