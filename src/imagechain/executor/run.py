"""The stage `run`: run one script of the runner in the container that it is for, and tell how it ended.

The script reaches the container's shell through standard input, so that no secret in it is in an argument, in
the environment or on a disk. Its exit code is its own only if its container still runs: podman uses the same
numbers for its own troubles.
"""

import contextlib
import importlib
import os
import subprocess
from collections.abc import Iterator

from imagechain.executor import podman, processes, state
from imagechain.executor.arguments import take_settings
from imagechain.executor.errors import BuildFailureError, SystemFailureError, exit_code
from imagechain.executor.log import say
from imagechain.executor.ready import Start
from imagechain.executor.shell import prelude
from imagechain.executor.signals import CancelledError, raise_when_cancelled
from imagechain.executor.state import Container, JobState

#: Stages that the runner writes for its helper; every other one is the job's own.
HELPER_STAGES = frozenset(
    {
        "prepare_script",
        "get_sources",
        "clear_worktree",
        "restore_cache",
        "download_artifacts",
        "archive_cache",
        "archive_cache_on_failure",
        "upload_artifacts_on_success",
        "upload_artifacts_on_failure",
        "cleanup_file_variables",
    }
)
#: How long a cancelled script may take to end by itself.
CANCEL_SECONDS_MAX = 10
#: How long what an earlier script left running may take.
_LEFT_SECONDS_MAX = 1
_CLIENT_SECONDS_MAX = 2
_RESTART_SECONDS_MAX = 60
#: The exit code of a shell whose command was ended by KILL.
_KILLED = 128 + 9
_ERROR_BYTES_MAX = 16 * 1024
_CHUNK_BYTES = 1024 * 1024


def main(arguments: list[str]) -> int:
    """Run a script; return 0, or the exit code of a build failure after noting the script's own."""
    _, rest = take_settings(arguments)
    if len(rest) != 2:
        raise SystemFailureError(
            "`run` needs the path of a script and the name of a stage, which the runner appends to run_args"
        )
    script, stage = rest
    raise_when_cancelled()
    folder = os.environ.get(state.FOLDER_VARIABLE, "/nonexistent")
    job_state = state.load(folder)
    kind = "helper" if stage in HELPER_STAGES else "build"
    container = job_state and (job_state.helper if kind == "helper" else job_state.build)
    if job_state is None or container is None:
        raise SystemFailureError(
            "there is no prepared job; the runner's config.toml needs config_exec and prepare_exec as well"
        )
    try:
        container = _with_container(folder, job_state, container, kind)
        code = _run_script(container, script, prelude(helper=kind == "helper"))
        if job_state.shown_services and kind == "build":
            service_logs = importlib.import_module("imagechain.executor.service_logs")
            service_logs.show_new(folder, job_state.shown_services)
    finally:
        podman.stop_all()
    if code == 0:
        return 0
    _note(code)
    return exit_code(BuildFailureError())


def _with_container(folder: str, job_state: JobState, container: Container, kind: str) -> Container:
    """Make sure that the container runs and that nothing of an earlier script does."""
    if container.init.lives:
        processes.end(container.init, container.spared, _LEFT_SECONDS_MAX)
        return container
    # A job that runs as root can end all of its container (`kill -9 -1`); its files are still there.
    log_start = os.path.getsize(f"{folder}/{kind}.log")
    podman.check("start", container.name)
    say("the container had ended; it was started again")
    try:
        container = Start(folder, kind, job_state.key, log_start).wait(_RESTART_SECONDS_MAX)
    except BuildFailureError as error:
        raise SystemFailureError(f"the container {container.name} {error}") from error
    helper, build = (container, job_state.build) if kind == "helper" else (job_state.helper, container)
    state.save(folder, job_state._replace(helper=helper, build=build))
    return container


def _run_script(container: Container, path: str, before: bytes) -> int:
    """Return the exit code of a script.

    Raises:
        SystemFailureError: it is not known, since podman or the container failed, or the runner cancelled it.
    """
    with _memory("script") as script, _memory("error") as error:
        _copy(path, script, before)
        arguments = ["exec", "--interactive", container.name, container.shell]
        call = podman.Call(arguments, stdin=script, stdout=1, stderr=error, leashed=True)
        try:
            code = call.process.wait()
        except CancelledError:
            _cancel(container, call.process)
            raise
        said = os.pread(error, _ERROR_BYTES_MAX, 0).decode(errors="replace").strip()
    if code == 0 and not said.startswith("Error:"):
        return 0
    if not container.init.lives:
        raise SystemFailureError(
            "the container of the job was ended while its script ran: by the system for want of memory, by"
            " a person, or by the script itself"
        )
    # What the script writes goes to the other output; this is podman's.
    if "Error:" in said or code < 0:
        raise SystemFailureError(f"podman could not run the script: {said or f'it was killed ({code})'}")
    if code == _KILLED and processes.killed_for_memory(container.init):
        say("the system has killed processes of this job that wanted more memory than its limit allows")
    return code


def _cancel(container: Container, client: "subprocess.Popen[bytes]") -> None:
    """End the script but not its container: the runner may still run `after_script` in it."""
    processes.end(container.init, container.spared, CANCEL_SECONDS_MAX)
    try:
        client.wait(_CLIENT_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        podman.stop(client)
        # The client may have been about to start the script.
        processes.end(container.init, container.spared, _LEFT_SECONDS_MAX)


def _note(code: int) -> None:
    """Tell the runner the script's own exit code, by which `allow_failure:exit_codes` goes.

    The file is one for all stages and is never emptied, so it is written each time.
    """
    path = os.environ.get("BUILD_EXIT_CODE_FILE", "")
    if path:
        with open(f"{path}.new", "w") as file:
            file.write(str(code))
        os.replace(f"{path}.new", path)


@contextlib.contextmanager
def _memory(name: str) -> Iterator[int]:
    """A file in memory: no pipe to be drained, nothing on a disk."""
    descriptor = os.memfd_create(name)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _copy(path: str, target: int, before: bytes) -> None:
    """Write a script, behind what comes before it, where podman reads it from the start."""
    with open(path, "rb") as file, os.fdopen(target, "wb", closefd=False) as out:
        out.write(before)
        while chunk := file.read(_CHUNK_BYTES):
            out.write(chunk)
    os.lseek(target, 0, os.SEEK_SET)
