"""The stage `cleanup`: remove what a job has made. Whatever is missing was removed, or never made.

The runner calls it after every attempt, also after one that failed before it made anything.
"""

import contextlib
import os

from imagechain.executor import podman
from imagechain.executor.errors import SystemFailureError
from imagechain.executor.signals import raise_when_cancelled
from imagechain.executor.state import FOLDER_VARIABLE, JobState, load, save


def main(arguments: list[str]) -> int:
    """Remove the job that `config` named; `gc` removes what cannot be removed now."""
    del arguments
    folder = os.environ.get(FOLDER_VARIABLE, "")
    if not folder:
        return 0
    raise_when_cancelled()
    try:
        state = load(folder)
        if state is not None:
            # From now on `gc` may finish what this could not.
            save(folder, state._replace(deadline=0.0))
            remove(folder, state)
    finally:
        podman.stop_all()
    return 0


def remove(folder: str, state: JobState) -> None:
    """Remove the containers, the network and the passing volume of a job, then what is known of it.

    Raises:
        SystemFailureError: something could not be removed; the job stays known.
    """
    # No time to end in: there is nobody to whom it would matter.
    arguments = ["rm", "--force", "--volumes", "--ignore", "--time=0"]
    if podman.run(*arguments, *state.container_names).code != 0:
        # With automatic user ids one container depends on the other; looking for that would cost every job.
        podman.check(*arguments, "--depend", *state.container_names)
    calls = []
    if state.network:
        calls.append(podman.Call(["network", "rm", "--force", state.network]))
    if state.builds_volume and not state.builds_kept:
        calls.append(podman.Call(["volume", "rm", "--force", state.builds_volume]))
    results = [call.result() for call in calls]
    for result in results:
        if result.code != 0 and not is_missing(result.error):
            raise SystemFailureError(f"could not clean up after the job: {result.error.strip()}")
    forget(folder)


def forget(folder: str) -> None:
    """Drop what is known of a job."""
    # The folder is flat, and ours alone.
    with contextlib.suppress(FileNotFoundError):
        for entry in os.listdir(folder):
            os.unlink(f"{folder}/{entry}")
        os.rmdir(folder)


def is_missing(said: str) -> bool:
    """Tell from podman's words whether it failed because there was nothing to remove."""
    return "not found" in said or "no such" in said
