"""`imagechain image build`: build one image, push it where the settings say."""

import asyncio
import os
import sys
from pathlib import Path
from platform import machine
from typing import Annotated

import msgspec
from cyclopts import Parameter

from imagechain.cli.build_arguments import BuildArguments, parse_build_arguments
from imagechain.cli.errors import EXIT_FAILED, EXIT_INTERRUPTED, UsageError
from imagechain.cli.output import Format, print_error_lines, print_json, print_lines
from imagechain.cli.registries import registry_client
from imagechain.cli.settings import read_settings
from imagechain.config import Settings
from imagechain.discovery.one import find_file, named_file, read_one, with_context
from imagechain.discovery.reading import HowToRead
from imagechain.engines.folders import find_folders
from imagechain.engines.interrupts import stoppable
from imagechain.engines.single import (
    BuiltImage,
    Order,
    build_one,
    leftovers,
    read_checkout,
    remove_leftovers,
    work_folder,
)
from imagechain.images import BuilderError, BuildFailedError, BuildOptions, RegistryAccess, choose_builder
from imagechain.images.auth_file import write_auth_file
from imagechain.images.choose import BuilderName
from imagechain.images.everywhere import NotEverywhereError
from imagechain.images.logins import Places, find_places, image_name
from imagechain.images.secrets import SecretArgumentError, check_arguments, check_secrets
from imagechain.images.tags import PipelineError, architecture_tag, build_tag, digest_variable, read_pipeline
from imagechain.images.trial import TrialError, read_trial
from imagechain.refs import (
    Platform,
    PlatformError,
    ReferenceError,
    parse_architecture,
    parse_platform,
    parse_reference,
)
from imagechain.registry import usual_auth_files
from imagechain.together import together

Many = Parameter(negative=(), consume_multiple=False)
#: Variables that are build arguments wherever a Containerfile declares them.
_OFFERED = ("BASE_IMAGE", "BASE_IMAGE_TAG")
_QEMU_HINT = "; RUN for {} needs qemu on this machine: `imagechain doctor` tells whether it is there"


class _Pushing(msgspec.Struct, frozen=True):
    """Where the image goes, and under which tags; without tags it stays here, and the logins are to read."""

    places: Places
    tags: tuple[str, ...]


def build(
    name: str | None = None,
    /,
    *,
    directory: Annotated[Path, Parameter(name="--dir")] = Path(),
    file: Path | None = None,
    context: Path | None = None,
    target: str | None = None,
    platform: str | None = None,
    build_arg: BuildArguments = (),
    secret: Annotated[tuple[str, ...], Many] = (),
    parent: Annotated[tuple[str, ...], Many] = (),
    cache_from: Annotated[tuple[str, ...], Many] = (),
    cache_to: Annotated[tuple[str, ...], Many] = (),
    tag: Annotated[tuple[str, ...], Many] = (),
    push: bool | None = None,
    rebuild: bool | None = None,
    builder: BuilderName | None = None,
    dotenv: Path | None = None,
    format: Format = "table",
) -> int:
    """Build one image; in a CI job, push it as p-<pipeline>.

    The Containerfile is builds/NAME, builds/NAME.in, NAME/Containerfile, or the repository's own. The same
    commit gives the same image, here and in CI. Nothing is built that the registry has already.

    Args:
        name: The image; default: the variable IMAGE_NAME, or the repository's own image.
        directory: The top folder of the repository.
        file: The Containerfile, relative to that folder.
        context: The folder that COPY reads from, relative to that folder; default: the folder of the
            Containerfile, or the one around builds/.
        target: The stage to build.
        platform: What it is built for, such as linux/arm64; default: IMAGE_ARCH, or this machine.
        build_arg: A build argument, NAME=VALUE; may be given several times.
        secret: A file for RUN --mount=type=secret, id=NAME,src=FILE; may be given several times.
        parent: Read another image than the Containerfile names, WRITTEN=USED; may be given several times.
        cache_from: A repository with layers of earlier builds; may be given several times.
        cache_to: A repository that the layers are put to; may be given several times.
        tag: A tag to push under, instead of p-<pipeline>; may be given several times.
        push: Push the image; default: in a CI job.
        rebuild: Build it, even if the registry has it; default: in scheduled pipelines.
        builder: What builds; default: buildah, else podman, else docker.
        dotenv: A file to write the digest to, as IMAGE_DIGEST_<NAME>, for jobs that test and promote
            (artifacts:reports:dotenv).
        format: How the result is printed.
    """
    top = directory.resolve()
    environ = os.environ
    settings = read_settings(directory)
    wanted, asked = _platform(platform or "", _architecture())
    name = name or environ.get("IMAGE_NAME") or None
    found = named_file(top, file, context) if file else with_context(top, find_file(top, name), context)
    arguments = parse_build_arguments(build_arg)
    how = HowToRead(
        platform=wanted,
        build_platform=parse_platform(f"linux/{machine()}"),
        target=target,
        dialect="buildkit" if builder in {"docker", "buildx"} else "buildah",
    )
    offered = {name: environ[name] for name in _OFFERED if environ.get(name)}
    image = read_one(top, found, settings, how, build_args=arguments, offered_args=offered)
    try:
        check_arguments(image.build_args, environ)
        check_secrets(secret)
        pushing = _pushing(name, settings, asked, tag, push)
        # What the child pipeline built itself goes before what it is tried on.
        instead = read_trial(environ) | _parents(parent)
    except (SecretArgumentError, PipelineError, TrialError) as error:
        raise UsageError(str(error)) from error
    is_scheduled = environ.get("CI_PIPELINE_SOURCE") == "schedule"
    order = Order(
        top=top,
        image=image,
        platform=wanted,
        options=BuildOptions(
            target=target, platform=asked, secrets=secret, cache_from=cache_from, cache_to=cache_to
        ),
        instead=instead,
        names=image.images,
        tags=pushing.tags,
        rebuild=is_scheduled if rebuild is None else rebuild,
    )
    print_error_lines(str(warning) for warning in image.warnings)
    print_error_lines([f"builds {found.file} with the context {found.context}"])
    try:
        built = asyncio.run(stoppable(_build(order, settings, builder, pushing), None))
    except (NotEverywhereError, BuilderError) as error:
        hint = _QEMU_HINT if isinstance(error, BuildFailedError) and wanted != how.build_platform else ""
        print_error_lines([f"imagechain: {error}{hint.format(wanted)}"])
        return EXIT_FAILED
    if built is None:
        return EXIT_INTERRUPTED
    if dotenv is not None and built.digest:
        dotenv.write_text(f"{digest_variable(image_name(name, environ), asked)}={built.digest}\n")
    _print(built, format)
    return 0


async def _build(
    order: Order, settings: Settings, program: BuilderName | None, pushing: _Pushing
) -> BuiltImage:
    environ = os.environ
    usual = usual_auth_files(environ)
    logins = pushing.places.logins
    insecure = frozenset(host for host, table in settings.registry.items() if table.insecure)
    folders = find_folders(order.top)
    around = folders.state / "single"
    with work_folder(around) as work:
        auth_file = write_auth_file(work, logins, environ, usual)
        access = RegistryAccess(auth_file, insecure)
        builder, checkout = await together(choose_builder(program, access), read_checkout(order))
        print_error_lines([await builder.prepare(folders.cache)])
        if left := leftovers(around):
            await builder.sweep(lambda folder: Path(folder) in left)
            remove_leftovers(left)
        async with registry_client(
            settings, environ, auth_files=(auth_file,) if auth_file else usual
        ) as client:
            repositories = [client.direct(place) for place in pushing.places.repositories]
            return await build_one(
                order,
                checkout,
                builder,
                client,
                repositories,
                work=work,
                say=lambda line: print_error_lines([line]),
                write_log=_write_log,
            )


def _write_log(chunk: bytes) -> None:
    sys.stderr.buffer.write(chunk)
    sys.stderr.buffer.flush()


def _architecture() -> str:
    """Read for which architecture the job builds."""
    one, several = os.environ.get("IMAGE_ARCH", ""), os.environ.get("IMAGE_ARCHES", "")
    if several and not one:
        raise UsageError(
            "IMAGE_ARCHES is for `imagechain image manifest`, which makes one image of the parts; each part "
            "is built by a job of its own: set IMAGE_ARCH there"
        )
    if several and one not in several.split():
        raise UsageError(f"IMAGE_ARCH is {one!r}, which is not in IMAGE_ARCHES ({several}); mend one of them")
    return one


def _platform(platform: str, architecture: str) -> tuple[Platform, Platform | None]:
    """Read what is built for, and what of that the builder has to be told."""
    if not platform and not architecture:
        return parse_platform(f"linux/{machine()}"), None
    try:
        asked = parse_platform(platform) if platform else parse_architecture(architecture)
    except PlatformError as error:
        raise UsageError(f"{'--platform' if platform else 'IMAGE_ARCH'}: {error}") from error
    return asked, asked


def _pushing(
    name: str | None, settings: Settings, platform: Platform | None, tags: tuple[str, ...], push: bool | None
) -> _Pushing:
    """Tell where the image is pushed and under which tags."""
    pipeline = read_pipeline(os.environ)
    if not (pipeline is not None if push is None else push):
        if not os.environ.get("CI_REGISTRY_IMAGE"):
            return _Pushing(Places((), {}), ())
        places = find_places(image_name(name, os.environ), settings.image.registry, os.environ)
        return _Pushing(places, ())
    if not tags:
        if pipeline is None:
            raise UsageError("--push outside of a pipeline needs a tag: give --tag")
        own = build_tag(pipeline)
        tags = (architecture_tag(own, platform) if platform else own,)
    places = find_places(image_name(name, os.environ), settings.image.registry, os.environ)
    print_error_lines(places.skipped)
    return _Pushing(places, tags)


def _parents(pairs: tuple[str, ...]) -> dict[str, str]:
    instead = {}
    for pair in pairs:
        written, _, used = pair.partition("=")
        try:
            instead[str(parse_reference(written))] = str(parse_reference(used))
        except ReferenceError as error:
            raise UsageError(
                f"--parent {pair}: write it as WRITTEN=USED, two image references: {error}"
            ) from error
    return instead


def _print(built: BuiltImage, format: Format) -> None:
    if format == "json":
        print_json(built)
        return
    lines = [f"built {name} ({built.id[:12]})" for name in built.names]
    if not (built.names or built.reused):
        lines = [f"built {built.id}"]
    lines += [f"pushed {reference}@{built.digest}" for reference in built.pushed]
    print_lines(lines)
