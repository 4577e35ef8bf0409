"""`imagechain image tag`: give the tested image its further names, without building or pulling anything."""

import asyncio
import os
import re
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from imagechain.cli.errors import EXIT_FAILED, UsageError
from imagechain.cli.image_places import open_places, this_pipeline
from imagechain.cli.output import Format, print_error_lines, print_json, print_table
from imagechain.cli.settings import read_settings
from imagechain.config import Settings
from imagechain.images.everywhere import NotEverywhereError, Written
from imagechain.images.logins import image_name
from imagechain.images.promote import (
    PromotionRefusedError,
    check_deployment,
    names_to_write,
    promote,
    remove,
)
from imagechain.images.tags import (
    PRODUCTION,
    Pipeline,
    PipelineError,
    architecture_tag,
    build_tag,
    deployment_tag,
    digest_variable,
)
from imagechain.refs import Platform, PlatformError, parse_architecture

Flag = Parameter(negative=())
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def tag(
    name: str | None = None,
    /,
    *,
    digest: str | None = None,
    dry_run: Annotated[bool, Flag] = False,
    remove: Annotated[bool, Flag] = False,
    directory: Annotated[Path, Parameter(name="--dir")] = Path(),
    format: Format = "table",
) -> int:
    """Give the tested image of this pipeline its further names, in all registries or in none.

    In a job without an environment, after the tests: g-<pipeline>, and latest on the default branch, or the
    git tag. In a job with the environment production or production/...: production. In a job with any other
    environment, in a merge request: mr-<number>. Two jobs that do so at the same time write the same.

    Args:
        name: The image; default: the variable IMAGE_NAME, or the project's name.
        digest: The digest that was tested; default: the variable IMAGE_DIGEST_<NAME>, as the build job handed
            it on (--dotenv), or else what p-<pipeline> names.
        dry_run: Check everything, and write nothing.
        remove: Remove the tag of this merge request's environment: for the job that stops it.
        directory: The folder with imagechain.toml.
        format: How the answer is printed.
    """
    pipeline = this_pipeline()
    image = image_name(name, os.environ)
    variable = digest_variable(image, _architecture())
    tested = digest or os.environ.get(variable, "")
    if tested and not _DIGEST.fullmatch(tested):
        raise UsageError(f"--digest ({variable}): {tested!r} is no digest like sha256:...")
    settings = read_settings(directory)
    try:
        if remove:
            return asyncio.run(_remove(image, pipeline, settings))
        written = asyncio.run(_promote(image, pipeline, settings, tested, dry_run=dry_run))
    except (PromotionRefusedError, NotEverywhereError) as error:
        print_error_lines([f"imagechain: {error}"])
        return EXIT_FAILED
    except PipelineError as error:
        raise UsageError(str(error)) from error
    if format == "json":
        print_json({"tags": written})
    else:
        rows = [(f"{one.image}:{one.tag}", one.digest, one.outcome) for one in written]
        print_table(("name", "digest", "outcome"), rows)
    return 0


async def _promote(
    image: str, pipeline: Pipeline, settings: Settings, tested: str, *, dry_run: bool
) -> tuple[Written, ...]:
    check_deployment(pipeline, settings.image.production_refs)
    source, names = names_to_write(pipeline)
    same_as = build_tag(pipeline)
    async with open_places(image, settings) as repositories:
        return await promote(
            repositories,
            _of_architecture(source),
            [_of_architecture(one) for one in names],
            tested_digest=tested,
            same_as="" if same_as == source else _of_architecture(same_as),
            dry_run=dry_run,
        )


async def _remove(image: str, pipeline: Pipeline, settings: Settings) -> int:
    deployed = deployment_tag(pipeline)
    if deployed == PRODUCTION:
        raise UsageError("--remove is for the environment of a merge request; production stays")
    async with open_places(image, settings) as repositories:
        left = await remove(repositories, _of_architecture(deployed))
    print_error_lines(left)
    return EXIT_FAILED if left else 0


def _of_architecture(tag: str) -> str:
    """Add the architecture, where the job is for one only."""
    platform = _architecture()
    return architecture_tag(tag, platform) if platform else tag


def _architecture() -> Platform | None:
    """Read which architecture the job is for; None: for all that the image has."""
    architecture = os.environ.get("IMAGE_ARCH", "")
    if not architecture:
        return None
    try:
        return parse_architecture(architecture)
    except PlatformError as error:
        raise UsageError(f"IMAGE_ARCH: {error}") from error
