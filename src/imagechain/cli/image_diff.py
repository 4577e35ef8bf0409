"""`imagechain image diff`: name what differs in two builds."""

import asyncio
import os
from pathlib import Path
from platform import machine
from typing import Annotated

from cyclopts import Parameter

from imagechain.cli.errors import EXIT_FAILED, UsageError
from imagechain.cli.output import Format, print_json, print_lines, print_table
from imagechain.cli.registries import registry_client
from imagechain.cli.settings import read_settings
from imagechain.config import Settings
from imagechain.engines.folders import find_folders
from imagechain.engines.single import work_folder
from imagechain.images import choose_builder
from imagechain.images.diff import ImageDifference, compare
from imagechain.images.layers import LayerError
from imagechain.images.unpack import UnpackError, unpack
from imagechain.refs import Platform, PlatformError, parse_platform


def diff(
    a: str,
    b: str,
    /,
    *,
    platform: str | None = None,
    directory: Annotated[Path, Parameter(name="--dir")] = Path(),
    format: Format = "table",
) -> int:
    """Name the files and the values in which two images differ. Exits 1 if something differs.

    An image is a name or an id of the local store, else of a registry; docker://NAME is always a registry's.
    oci:FOLDER, oci-archive:FILE and docker-archive:FILE are read too.

    Args:
        a: The one image.
        b: The other image.
        platform: Which of several is meant; default: this machine's.
        directory: The folder with imagechain.toml.
        format: How the answer is printed.
    """
    try:
        wanted = parse_platform(platform or f"linux/{machine()}")
    except PlatformError as error:
        raise UsageError(f"--platform: {error}") from error
    try:
        found = asyncio.run(_diff(a, b, wanted, directory, read_settings(directory)))
    except (UnpackError, LayerError) as error:
        raise UsageError(str(error)) from error
    if format == "json":
        print_json(found)
    else:
        _print(found)
    return 0 if found.same else EXIT_FAILED


async def _diff(a: str, b: str, platform: Platform, directory: Path, settings: Settings) -> ImageDifference:
    builder = await choose_builder()
    with work_folder(find_folders(directory).state / "single") as work:
        async with registry_client(settings, os.environ) as client:
            images = []
            for number, name in enumerate((a, b)):
                folder = work / str(number)
                folder.mkdir()
                images.append(await unpack(name, platform, folder, builder=builder, client=client))
        return await asyncio.to_thread(compare, *images)


def _print(found: ImageDifference) -> None:
    if found.same:
        print_lines(["nothing differs"])
        return
    rows = [(f"layer {one.layer}", one.change, f"/{one.path}", ", ".join(one.what)) for one in found.files]
    rows += [("value", "changed", one.where, f"{one.a} -> {one.b}") for one in found.values]
    print_table(("WHERE", "CHANGE", "NAME", "WHAT"), rows)
