"""Choose the builder of this machine. What it can do is asked of its help, never told from its version."""

import shutil

from imagechain.images import buildah, docker, process
from imagechain.images.buildah import Buildah
from imagechain.images.builder import Builder, BuilderError
from imagechain.images.docker import DockerLike
from imagechain.images.process import ProgramError

_INSTALL = (
    "no builder of images is installed: install buildah (Debian, Ubuntu: sudo apt-get install buildah; "
    "Fedora: sudo dnf install buildah), or podman"
)


async def choose_builder() -> Builder:
    """Find buildah, else podman, else docker, and check that it can do what is needed.

    Raises:
        BuilderError: there is none, or it is too old.
    """
    if shutil.which("buildah"):
        await _check_flags("buildah", buildah.NEEDED_FLAGS)
        return Buildah()
    if shutil.which("podman"):
        await _check_flags("podman", buildah.NEEDED_FLAGS)
        return DockerLike("podman")
    if shutil.which("docker"):
        await _check_flags("docker", docker.NEEDED_FLAGS)
        return DockerLike("docker")
    raise BuilderError(_INSTALL)


async def _check_flags(program: str, needed: tuple[str, ...]) -> None:
    try:
        text = (await process.run([program, "build", "--help"])).check().output.decode(errors="replace")
    except ProgramError as error:
        raise BuilderError(f"{program} does not work: {error}") from error
    missing = [flag for flag in needed if flag not in text]
    if missing:
        raise BuilderError(
            f"this {program} is too old: `{program} build` knows no {', '.join(missing)}; install buildah "
            "1.28 or newer (Debian 12 has it)"
        )
