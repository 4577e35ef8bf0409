"""Choose the builder of this machine. What it can do is asked of its help, never told from its version."""

import shutil
from typing import Literal

from imagechain.images import buildah, docker, process
from imagechain.images.buildah import Buildah
from imagechain.images.builder import Builder, BuilderError, RegistryAccess
from imagechain.images.docker import DockerLike
from imagechain.images.process import ProgramError

_INSTALL = (
    "no builder of images is installed: install buildah (Debian, Ubuntu: sudo apt-get install buildah; "
    "Fedora: sudo dnf install buildah), or podman"
)


BuilderName = Literal["buildah", "podman", "docker", "buildx"]
#: By the name that `--builder` takes, in the order in which they are chosen: what must be installed, how its
#: build command is called, and which flags of it are needed.
_BUILDERS: dict[BuilderName, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "buildah": ("buildah", ("buildah", "build"), buildah.NEEDED_FLAGS),
    "podman": ("podman", ("podman", "build"), buildah.NEEDED_FLAGS),
    "docker": ("docker", ("docker", "build"), docker.NEEDED_FLAGS),
    "buildx": ("docker", ("docker", "buildx", "build"), docker.NEEDED_FLAGS_BUILDX),
}


async def choose_builder(wanted: BuilderName | None = None, access: RegistryAccess | None = None) -> Builder:
    """Find a builder, and check that it can do what is needed.

    Args:
        wanted: Only this one; None: buildah, else podman, else docker.
        access: How it gets at registries.

    Raises:
        BuilderError: there is none, or it is too old.
    """
    name = wanted or next((name for name in _BUILDERS if shutil.which(_BUILDERS[name][0])), None)
    if name is None:
        raise BuilderError(_INSTALL)
    program, command, flags = _BUILDERS[name]
    if not shutil.which(program):
        raise BuilderError(f"{program} is not installed; install it, or leave out --builder")
    await _check_flags(command, flags)
    if name == "buildah":
        return Buildah(access)
    return DockerLike(name, access)


async def _check_flags(command: tuple[str, ...], needed: tuple[str, ...]) -> None:
    program = " ".join(command[:-1])
    try:
        text = (await process.run([*command, "--help"])).check().output.decode(errors="replace")
    except ProgramError as error:
        raise BuilderError(f"{program} does not work: {error}") from error
    missing = [flag for flag in needed if flag not in text]
    if missing:
        raise BuilderError(
            f"this {program} is too old: `{' '.join(command)}` knows no {', '.join(missing)}; install "
            "buildah 1.28 or newer (Debian 12 has it)"
        )
