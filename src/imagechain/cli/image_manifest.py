"""`imagechain image manifest`: make one image of the parts that the jobs of each architecture built."""

import asyncio
import os
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from imagechain.cli.errors import EXIT_FAILED, UsageError
from imagechain.cli.image_places import open_places, this_pipeline
from imagechain.cli.output import Format, print_error_lines, print_json, print_table
from imagechain.cli.settings import read_settings
from imagechain.config import Settings
from imagechain.images.assemble import Part, PartError, assemble, check_parts
from imagechain.images.everywhere import NotEverywhereError, Written, put_everywhere
from imagechain.images.logins import image_name
from imagechain.images.tags import Pipeline, PipelineError, architecture_tag, build_tag, digest_variable
from imagechain.refs import Platform, PlatformError, decode_image_config, parse_architecture
from imagechain.registry import AbsentError, Index, WritableRepository
from imagechain.registry.client import CONFIG_BYTES_MAX
from imagechain.registry.manifest import decode_manifest, digest_of
from imagechain.together import together


def manifest(
    name: str | None = None,
    /,
    *,
    arch: Annotated[tuple[str, ...], Parameter(negative=(), consume_multiple=False)] = (),
    dotenv: Path | None = None,
    directory: Annotated[Path, Parameter(name="--dir")] = Path(),
    format: Format = "table",
) -> int:
    """Make one image, p-<pipeline>, of its parts p-<pipeline>-<arch>; in all registries or in none.

    The parts are sorted, so that the same parts give the same digest. A part that is missing, is for another
    architecture or is of another repository is refused by name.

    Args:
        name: The image; default: the variable IMAGE_NAME, or the project's name.
        arch: An architecture; give it once for each. Default: the variable IMAGE_ARCHES.
        dotenv: A file to write the digest to, as IMAGE_DIGEST_<NAME>, for jobs that test and promote
            (artifacts:reports:dotenv).
        directory: The folder with imagechain.toml.
        format: How the answer is printed.
    """
    pipeline = this_pipeline()
    image = image_name(name, os.environ)
    platforms = _platforms(arch or tuple(os.environ.get("IMAGE_ARCHES", "").split()))
    try:
        written = asyncio.run(_assemble(image, pipeline, platforms, read_settings(directory)))
    except (PartError, NotEverywhereError) as error:
        print_error_lines([f"imagechain: {error}"])
        return EXIT_FAILED
    except PipelineError as error:
        raise UsageError(str(error)) from error
    if dotenv is not None:
        dotenv.write_text(f"{digest_variable(image)}={written[0].digest}\n")
    if format == "json":
        print_json({"tags": written})
    else:
        rows = [(f"{one.image}:{one.tag}", one.digest, one.outcome) for one in written]
        print_table(("name", "digest", "outcome"), rows)
    return 0


def _platforms(arches: tuple[str, ...]) -> tuple[Platform, ...]:
    if not arches:
        raise UsageError("which architectures? Give --arch once for each, or set IMAGE_ARCHES")
    try:
        platforms = tuple(parse_architecture(arch) for arch in arches)
    except PlatformError as error:
        raise UsageError(f"--arch (IMAGE_ARCHES): {error}") from error
    if len(set(platforms)) < len(platforms):
        raise UsageError(f"--arch (IMAGE_ARCHES): {' '.join(arches)} names an architecture twice")
    return platforms


async def _assemble(
    image: str, pipeline: Pipeline, platforms: tuple[Platform, ...], settings: Settings
) -> tuple[Written, ...]:
    async with open_places(image, settings) as repositories:
        tags = [architecture_tag(build_tag(pipeline), platform) for platform in platforms]
        parts = await together(
            *(
                _read_part(repositories[0], tag, platform)
                for tag, platform in zip(tags, platforms, strict=True)
            )
        )
        check_parts(parts)
        raw, media_type = assemble(parts)
        index = decode_manifest(raw, media_type, digest_of(raw))
        return await put_everywhere(repositories, [build_tag(pipeline)], index)


async def _read_part(repository: WritableRepository, tag: str, platform: Platform) -> Part:
    name = f"{repository.endpoint}:{tag}"
    try:
        found = await repository.manifest(tag)
    except AbsentError as error:
        raise PartError(
            f"the part for {platform} is missing: there is no {name}; before this, a job with IMAGE_ARCH for "
            "it has to build the image in this pipeline"
        ) from error
    if isinstance(found, Index):
        raise PartError(f"{name} is an index, not the image of one architecture; build it with IMAGE_ARCH")
    data = await repository.blob(found.config.digest, CONFIG_BYTES_MAX)
    try:
        config = decode_image_config(data)
    except (ValueError, RecursionError) as error:
        raise PartError(f"the config of {name} cannot be read: {error}; build it again") from error
    return Part(name, platform, found, config)
