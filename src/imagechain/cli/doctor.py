"""`imagechain doctor`: check this machine or a service, and say how to mend each finding."""

import asyncio
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
from cyclopts import Parameter

from imagechain.cli.doctor_builders import examine_architectures, examine_builders
from imagechain.cli.finding import Finding, print_findings
from imagechain.cli.output import Format
from imagechain.cli.settings import read_settings
from imagechain.config import FILE_NAME, ConfigError
from imagechain.engines.folders import find_folders
from imagechain.images import BuilderError, choose_builder

_GIB = 1024**3
#: Below this, the next build may fill the disk.
_FREE_GIB_MIN = 2
_INFO_SECONDS_MAX = 20


class _Store(msgspec.Struct, frozen=True):
    driver: str = msgspec.field(name="GraphDriverName")
    folder: str = msgspec.field(name="GraphRoot")


class _Info(msgspec.Struct, frozen=True):
    store: _Store


def doctor(
    *,
    dir: Annotated[Path, Parameter(name="--dir")] = Path(),
    config: Annotated[Path | None, Parameter(name="--config")] = None,
    server: Annotated[str | None, Parameter(name="--server")] = None,
    format: Format = "table",
) -> int:
    """Check this machine, or a service, and say how to mend each finding. Exits 1 if something does not work.

    Args:
        dir: The top folder of the chain whose settings are checked.
        config: Check the service of these settings instead: its token, GitLab, registries, hooks and store.
        server: Check the service at this address instead; alone, only what it tells itself.
        format: How the findings are printed.
    """
    if config is None and server is None:
        return print_findings(tuple(_examine(dir)), format)
    from imagechain.cli.doctor_service import examine_service  # noqa: PLC0415 - who builds here needs none of it

    return print_findings(tuple(asyncio.run(examine_service(config, server))), format)


def _examine(directory: Path) -> Iterator[Finding]:
    yield Finding("python", "ok", ".".join(map(str, sys.version_info[:3])))
    yield from _builder(directory)
    yield from examine_builders()
    yield examine_architectures()
    yield _program("cpp", "reads Containerfiles that end in .in", "cpp")
    yield _program("git", "tells the commit that an image is built from", "git")
    yield _program("setpriv", "stops builds when imagechain is killed", "util-linux")
    yield _settings(directory)


def _builder(directory: Path) -> Iterator[Finding]:
    async def prepare() -> tuple[str, str]:
        builder = await choose_builder()
        return builder.program, await builder.prepare(find_folders(directory).cache)

    try:
        program, how = asyncio.run(prepare())
    except BuilderError as error:
        yield Finding("builder", "error", str(error))
        return
    yield Finding("builder", "ok", how)
    if os.getuid() != 0:
        yield _subordinate_ids()
    if program in ("buildah", "podman"):
        yield from _store(program)


def _store(program: str) -> Iterator[Finding]:
    try:
        output = subprocess.run(
            [program, "info", *([] if program == "buildah" else ["--format", "json"])],
            capture_output=True,
            check=True,
            timeout=_INFO_SECONDS_MAX,
        ).stdout
        store = msgspec.json.decode(output, type=_Info).store
        free = shutil.disk_usage(store.folder).free
    except (OSError, subprocess.SubprocessError, msgspec.DecodeError) as error:
        yield Finding(
            "image store", "error", f"`{program} info` does not answer: {error}", f"run `{program} info`"
        )
        return
    if store.driver == "vfs":
        yield Finding(
            "image store",
            "warning",
            f"{store.folder} uses vfs, which copies every layer for every image",
            'set driver = "overlay" in storage.conf (without root, install fuse-overlayfs first)',
        )
    else:
        yield Finding("image store", "ok", f"{store.folder} ({store.driver})")
    gib = free / _GIB
    if gib < _FREE_GIB_MIN:
        yield Finding(
            "disk",
            "error",
            f"{gib:.1f} GiB are free in {store.folder}",
            f"make room, for instance with `{program} rmi --prune`",
        )
    else:
        yield Finding("disk", "ok", f"{gib:.0f} GiB free")


def _subordinate_ids() -> Finding:
    """Look for the range of ids that builds without root map their users to (subuid(5))."""
    import getpass  # noqa: PLC0415 - only people without root need it

    names = {getpass.getuser(), str(os.getuid())}
    for file in (Path("/etc/subuid"), Path("/etc/subgid")):
        try:
            owners = {line.partition(":")[0] for line in file.read_text().splitlines()}
        except OSError:
            owners = set()
        if not names & owners:
            return Finding(
                "user ids",
                "error",
                f"{file} has no range for you, so images with several users cannot be built",
                "as root: usermod --add-subuids 100000-165535 --add-subgids 100000-165535 "
                + getpass.getuser(),
            )
    return Finding("user ids", "ok", "you have ranges in /etc/subuid and /etc/subgid")


def _program(program: str, purpose: str, package: str) -> Finding:
    where = shutil.which(program)
    if where is None:
        return Finding(program, "warning", f"missing; it {purpose}", f"apt-get install {package}")
    return Finding(program, "ok", where)


def _settings(directory: Path) -> Finding:
    if not (directory / FILE_NAME).exists():
        return Finding("settings", "ok", f"no {FILE_NAME} in {directory.resolve()}; the defaults hold")
    try:
        read_settings(directory)
    except ConfigError as error:
        return Finding("settings", "error", str(error))
    return Finding("settings", "ok", str(directory / FILE_NAME))
