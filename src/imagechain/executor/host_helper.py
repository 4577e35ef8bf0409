"""The helper container without an image of its own: this machine's programs, mounted read-only.

For the first day, before there is a helper image, and for machines that shall pull nothing for it. Only
`/usr` and the certificates of this machine are seen in it, and nothing can be written but the builds, the
cache and memory. The root folder is a skeleton that all helpers share: `podman run --rootfs`.
"""

import os

from imagechain.executor.errors import SystemFailureError

#: Where the runner's own program is mounted; `/usr` is read-only, so it has a place of its own.
RUNNER_FOLDER = "/opt/imagechain/bin"
_PATH = f"{RUNNER_FOLDER}:/usr/local/bin:/usr/bin:/usr/sbin"
_FOLDERS = (
    "builds", "cache", "dev", "etc", RUNNER_FOLDER.lstrip("/"), "proc", "root", "run", "sys", "tmp", "usr",
    "var/tmp",
)  # fmt: skip
#: With a merged `/usr` these are links into it, as on every distribution that has podman 4.
_LINKS = ("bin", "lib", "lib64", "sbin")
_FILES = {"etc/passwd": "root:x:0:0:root:/root:/bin/sh\n", "etc/group": "root:x:0:\n"}
#: What git and the runner need of `/etc`: certificates, how TLS is to be spoken, where alternatives point.
_OF_ETC = ("alternatives", "ca-certificates", "crypto-policies", "pki", "ssl")
_PROGRAMS = ("/usr/bin/git", "/usr/bin/bash", "/usr/bin/hostname")


def missing() -> str:
    """Tell what this machine lacks to be its own helper; empty if nothing."""
    if not os.path.islink("/bin"):
        return "a merged /usr (here /bin is a folder of its own)"
    return ", ".join(program for program in _PROGRAMS if not os.access(program, os.X_OK))


def make_root(folder: str) -> None:
    """Make the skeleton of the helper's root folder; what is there of it is left alone.

    Raises:
        SystemFailureError: this machine lacks something, or the folder cannot be written.
    """
    if lacking := missing():
        raise SystemFailureError(
            "the settings name no helper_image, and this machine cannot be its own helper for want of"
            f" {lacking}; install it, or set helper_image (packaging/images/runner-helper is a recipe)"
        )
    try:
        for name in _FOLDERS:
            os.makedirs(f"{folder}/{name}", mode=0o755, exist_ok=True)
        for name in _LINKS:
            if os.path.islink(f"/{name}") and not os.path.lexists(f"{folder}/{name}"):
                os.symlink(f"usr/{name}", f"{folder}/{name}")
        for name, text in _FILES.items():
            with open(f"{folder}/{name}", "w") as file:
                file.write(text)
    except FileExistsError:
        pass  # another job makes the same links at this moment
    except OSError as error:
        raise SystemFailureError(f"cannot make the helper's root {folder}: {error.strerror}") from error


def options(folder: str, runner_binary: str) -> list[str]:
    """Return the end of the arguments of `podman run`, where otherwise an image is named."""
    return [
        "--read-only",
        "--tmpfs=/root",
        "--volume=/usr:/usr:ro",
        *(f"--volume=/etc/{name}:/etc/{name}:ro" for name in _OF_ETC if os.path.isdir(f"/etc/{name}")),
        *([f"--volume={runner_binary}:{RUNNER_FOLDER}/gitlab-runner:ro"] if runner_binary else []),
        f"--env=PATH={_PATH}",
        "--rootfs",
        folder,
    ]
