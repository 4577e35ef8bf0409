"""What both bots ask about images and pipelines."""

from collections.abc import Iterable

import msgspec

from imagechain.refs import parse_reference
from imagechain.service.ports import ImageRead, Images, ImageUnchecked, Pipeline, RetryableError

PASSED = frozenset({"success", "manual"})
FAILED = frozenset({"failed", "canceled", "skipped"})
#: Why something is given up that may have been started.
LOST = "GitLab's answer was lost; look whether its pipeline runs"


async def read_tagged(images: Images, published: Iterable[str], tag: str) -> dict[str, str]:
    """Read images under another tag: pinned, by the references that others name.

    Raises:
        RetryableError: a registry does not answer.
    """
    found = {}
    for name in published:
        reference = msgspec.structs.replace(parse_reference(name), tag=tag, digest=None)
        reading = await images.read(str(reference))
        if isinstance(reading, ImageUnchecked):
            raise RetryableError(reading.message)
        if isinstance(reading, ImageRead):
            found[name] = f"{reference.name}@{reading.digest}"
    return found


def why_failed(pipeline: Pipeline) -> str:
    """Say how a pipeline failed, if it is not plain."""
    return "" if pipeline.status == "failed" else f"its pipeline was {pipeline.status}"
