"""`imagechain image pipeline`: write the child pipeline of a repository with several images."""

import asyncio
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter

from imagechain.cli.errors import UsageError
from imagechain.cli.local import discover_local
from imagechain.cli.output import print_error_lines
from imagechain.cli.settings import read_settings
from imagechain.config import PipelineSettings
from imagechain.discovery import Discovery
from imagechain.engines.child_pipeline import (
    ChildPipelineError,
    JobOptions,
    PipelineImage,
    Repository,
    choose,
    find_base,
    list_images,
    write_document,
)
from imagechain.images import process
from imagechain.images.tags import PipelineError, read_pipeline
from imagechain.refs import PlatformError, parse_architecture

_GIT_SECONDS_MAX = 60.0
#: Jobs run in the top folder of the repository.
_TOP = Path()


def image_pipeline(
    *,
    output: Path,
    everything: Annotated[bool, Parameter(name="--all", negative=())] = False,
    arches: str = "",
    test: str = "",
    job_image: str = "",
) -> int:
    """Write a child pipeline that builds the images of a repository, each as soon as its parents are there.

    Only what the pipeline's changes touch is built, and what is built from it. All images are built by
    schedules and git tags, and where the history that would tell the changes is missing.

    Args:
        output: The file that is written.
        everything: Build all images, whatever was changed.
        arches: Architectures of the images for which the settings name none, such as "amd64 arm64".
            Default: the variable IMAGE_ARCHES, or whatever the runner is.
        test: A file of the repository whose job .test is run for each image, with IMAGE and IMAGE_NAME.
        job_image: The image with imagechain that the jobs run in.
    """
    environ = os.environ
    registry_image = environ.get("CI_REGISTRY_IMAGE", "")
    try:
        pipeline = read_pipeline(environ)
        if pipeline is None or not registry_image:
            raise UsageError(
                "CI_PIPELINE_ID and CI_REGISTRY_IMAGE name the pipeline and where its images are; run this "
                "in a job of GitLab, or set them"
            )
        if test and not (_TOP / test.lstrip("/")).is_file():
            raise UsageError(
                f"there is no file {test} with a job .test; write it, or mend the template's input test "
                "(--test)"
            )
        settings = read_settings(_TOP).pipeline
        images = _list_images(settings, arches, environ)
        changed, reason = (None, "--all says so") if everything else asyncio.run(_changed(environ))
        chosen = choose(images, changed)
        options = JobOptions(
            pipeline=pipeline,
            registry_image=registry_image,
            job_image=job_image,
            test_file=test,
            runner_tags=settings.runner_tags,
            # A child pipeline does not know what started the one above it.
            rebuild=environ.get("CI_PIPELINE_SOURCE") == "schedule",
            jobs_max=settings.jobs_max,
        )
        output.write_text(write_document(chosen, options))
    except (ChildPipelineError, PipelineError) as error:
        raise UsageError(str(error)) from error
    what = ", ".join(image.name for image in chosen) or "none"
    print_error_lines([f"{len(chosen)} of {len(images)} images are built ({reason}): {what}"])
    return 0


def _list_images(
    settings: PipelineSettings, arches: str, environ: Mapping[str, str]
) -> tuple[PipelineImage, ...]:
    registry_image = environ["CI_REGISTRY_IMAGE"]
    if environ.get("CHANGES"):
        of_all = (*settings.changes.get("**", ()), environ["CHANGES"])
        settings = msgspec.structs.replace(settings, changes={**settings.changes, "**": of_all})

    def discover(build_args: Mapping[str, str], arch: str | None) -> Discovery:
        return discover_local(
            _TOP,
            platform=arch and f"linux/{arch}",
            build_arguments=[f"{name}={value}" for name, value in build_args.items()],
            dialect="buildah",
            prefix=registry_image,
        )

    repository = Repository(
        top=_TOP.resolve(),
        registry_image=registry_image,
        project_name=environ.get("CI_PROJECT_NAME") or _TOP.resolve().name,
    )
    default_arches = (arches or environ.get("IMAGE_ARCHES", "")).split()
    for arch in default_arches:
        try:
            parse_architecture(arch)
        except PlatformError as error:
            raise UsageError(f"--arches (IMAGE_ARCHES): {error}") from error
    return list_images(discover, repository, settings, default_arches)


async def _changed(environ: Mapping[str, str]) -> tuple[list[str] | None, str]:
    """Ask git which paths changed; None if nobody knows, and why."""
    base = find_base(environ)
    if base.commit is None:
        return None, base.reason
    argv = ["git", "diff", "--name-only", "--no-renames", "-z", base.commit, "HEAD", "--"]
    try:
        completed = await process.run(argv, timeout_seconds=_GIT_SECONDS_MAX)
    except process.ProgramError as error:
        return None, f"git cannot tell what changed: {error}"
    if completed.exit_code != 0:
        return None, (
            f"the history since {base.commit[:12]} is not here; with GIT_DEPTH: 0 only what changed is built"
        )
    return [os.fsdecode(path) for path in completed.output.split(b"\0") if path], base.reason
