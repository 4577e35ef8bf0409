"""What `image tag` and `image manifest` share: the image, the pipeline, and where the image is put."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from imagechain.cli.errors import UsageError
from imagechain.cli.output import print_error_lines
from imagechain.cli.registries import registry_client
from imagechain.config import Settings
from imagechain.images.logins import find_places
from imagechain.images.tags import Pipeline, PipelineError, read_pipeline
from imagechain.registry import WritableRepository


def this_pipeline() -> Pipeline:
    """Read what pipeline this is.

    Raises:
        UsageError: there is none.
    """
    try:
        pipeline = read_pipeline(os.environ)
    except PipelineError as error:
        raise UsageError(str(error)) from error
    if pipeline is None:
        raise UsageError(
            "tags are named after a pipeline, and CI_PIPELINE_ID is not set; run this in a job of GitLab"
        )
    return pipeline


@asynccontextmanager
async def open_places(name: str, settings: Settings) -> AsyncIterator[list[WritableRepository]]:
    """Give the repositories that an image is put to, the job's own first; tell which are left out.

    Raises:
        ConfigError: there is none, or a login is missing.
    """
    places = find_places(name, settings.image.registry, os.environ)
    print_error_lines(places.skipped)
    async with registry_client(settings, os.environ, fallbacks=places.logins) as client:
        yield [client.direct(reference) for reference in places.repositories]
