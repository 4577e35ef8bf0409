"""`imagechain vet`: are images of others continuously built, and is that enough for the policy?"""

import asyncio
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from imagechain.cli.errors import EXIT_FAILED, UsageError
from imagechain.cli.examiner import open_examiner
from imagechain.cli.history import history_file, remember
from imagechain.cli.output import print_error_lines, print_json, print_lines, print_table
from imagechain.cli.registries import registry_client
from imagechain.cli.settings import read_service_settings
from imagechain.config import Settings
from imagechain.refs import (
    Platform,
    PlatformError,
    Reference,
    ReferenceError,
    parse_platform,
    parse_reference,
)
from imagechain.together import together
from imagechain.vetting.examine import Vetted
from imagechain.vetting.record import HistoryFile
from imagechain.vetting.report import findings_of, junit, prometheus, sarif

if TYPE_CHECKING:
    from imagechain.discovery import Discovery

#: One request for more is more likely a mistake than a wish.
REFERENCES_MAX = 2_000

_LOCAL = "localhost/"
_WRITERS = {"sarif": sarif, "junit": junit, "prometheus": prometheus}


def vet(
    *references: Annotated[str, Parameter(name="REF")],
    used: Annotated[bool, Parameter(negative=())] = False,
    directory: Annotated[Path | None, Parameter(name="--dir")] = None,
    config: Path | None = None,
    history: Path | None = None,
    platform: str = "linux/amd64",
    format: Literal["table", "json", "sarif", "junit", "prometheus"] = "table",
) -> int:
    """Tell for each image whether it is continuously built, what says so, and whether its policy is met.

    Leaves with 1 if a policy under `enforce` is violated, or cannot be checked.

    Args:
        references: Images to vet.
        used: Vet the images of others that the Containerfiles of the settings' groups are built from, and
            those that the containers of this host run.
        directory: Vet those that the Containerfiles in this folder are built from.
        config: The settings with the policies; default: imagechain.toml here, or in /etc/imagechain.
        history: What the tags named before, one JSON object a line; read and added to.
        platform: The platform of the images.
        format: How the result is printed.
    """
    settings = read_service_settings(config)
    if not (references or used or directory is not None):
        raise UsageError("name images to vet, or take those in use with --used or --dir DIR")
    found = _discover(settings, used=used, directory=directory, config=config, platform=platform)
    running = _running(settings, found) if used else []
    wanted = _wanted((*references, *running), found)
    try:
        parsed_platform = parse_platform(platform)
    except PlatformError as error:
        raise UsageError(f"--platform: {error}") from error
    file = HistoryFile(history) if history is not None else history_file(settings, os.environ)
    results = asyncio.run(_vet(wanted, parsed_platform, settings, file))
    match format:
        case "json":
            print_json(results)
        case "table":
            _print(results)
        case _:
            sys.stdout.write(_WRITERS[format](results).decode())
    return 0 if all(result.met for result in results) else EXIT_FAILED


def _discover(
    settings: Settings, *, used: bool, directory: Path | None, config: Path | None, platform: str
) -> "list[Discovery]":
    """Find what Containerfiles are built from: of the groups in the settings, and of a folder."""
    if not used and directory is None:
        return []
    # Imported here, because GitLab, builders and parsers take long to load, and most runs name their images.
    from imagechain.cli.group import discover_in_groups  # noqa: PLC0415
    from imagechain.cli.local import discover_local  # noqa: PLC0415

    found = []
    if used and (settings.gitlab.groups or not _has_podman()):
        found.append(discover_in_groups((), config, platform=platform, dialect="buildkit"))
    if directory is not None:
        found.append(discover_local(directory, platform=platform))
    return found


def _running(settings: Settings, found: "Sequence[Discovery]") -> list[str]:
    """List what the containers of this host run of images of others, where there is a podman."""
    if not _has_podman():
        return []
    from imagechain.cli.hosts import images_in_use  # noqa: PLC0415 - as in _discover

    own = {
        str(image)
        for each in found
        for source in each.sources
        if source.kind == "project"
        for image in source.images
    }
    return [name for name in map(str, asyncio.run(images_in_use(settings))) if name not in own]


def _has_podman() -> bool:
    return shutil.which("podman") is not None


def _wanted(references: Sequence[str], found: "Sequence[Discovery]") -> list[Reference]:
    external = (source.id for each in found for source in each.sources if source.kind == "external")
    wanted: dict[str, Reference] = {}
    for name in (*references, *external):
        if name.startswith(_LOCAL):
            continue
        try:
            reference = parse_reference(name)
        except ReferenceError as error:
            raise UsageError(str(error)) from error
        wanted[str(reference)] = reference
    if len(wanted) > REFERENCES_MAX:
        raise UsageError(f"{len(wanted)} images are more than the {REFERENCES_MAX} of one run; name fewer")
    return list(wanted.values())


async def _vet(
    wanted: Sequence[Reference], platform: Platform, settings: Settings, file: HistoryFile
) -> Sequence[Vetted]:
    known, problems = file.read()
    print_error_lines(problems)
    async with (
        registry_client(settings, os.environ, leaves_reserve=True) as client,
        open_examiner(settings, client, known) as examiner,
    ):
        results = await together(*(examiner.vet(reference, platform) for reference in wanted))
    remember(file, examiner.sightings)
    return results


def _print(results: Sequence[Vetted]) -> None:
    if not results:
        print_lines(["no images of others were found"])
        return
    rows = []
    for result in results:
        judgement = result.verdict.judgement if result.verdict is not None else "unknown"
        state = "met" if result.met else "not met"
        rows.append([result.ref, judgement, f"{result.policy}: {state}", result.base or "?"])
    print_table(["IMAGE", "VERDICT", "POLICY", "BASE"], rows)
    for result in results:
        print_lines(["", f"{result.ref} ({result.platform})"])
        if result.verdict is not None:
            print_lines(f"  {line}" for line in result.verdict.evidence)
        for finding in findings_of(result):
            excused = f" [excused: {finding.excused}]" if finding.excused else ""
            print_lines([f"  {finding.outcome:8} {finding.rule}: {finding.message}{excused}"])
