"""The one place that runs podman.

Podman gets an environment made here, not the runner's: its long-lived helpers (conmon, aardvark-dns) keep
what they were started with, and the runner's holds every secret of the job. It runs in a session of its own,
because `podman exec` answers the runner's TERM by leaving at once with exit code 0 while the script goes on.
"""

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import IO, NamedTuple

from imagechain.executor.errors import SystemFailureError

#: Longest that podman may take for anything but a pull or a script.
CALL_SECONDS_MAX = 120
_STOP_SECONDS_MAX = 5
_ERROR_CHARACTERS_MAX = 4000
_KEPT_NAMES = frozenset(
    {
        "PATH", "HOME", "USER", "LOGNAME", "LANG", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME",
        "DBUS_SESSION_BUS_ADDRESS", "STORAGE_DRIVER", "STORAGE_OPTS", "REGISTRY_AUTH_FILE", "SSL_CERT_FILE",
        "SSL_CERT_DIR", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
    }
)  # fmt: skip
#: The second one is what `podman unshare` sets, inside of which `gc` runs without root.
_KEPT_PREFIXES = ("CONTAINERS_", "_CONTAINERS_")
_SETPRIV = "/usr/bin/setpriv"
_MISSING = (
    "podman is not installed, or not in the PATH of the runner's service;"
    " `imagechain-executor doctor` says more"
)

#: What podman says where an image, or what a job asks about it, is at fault.
_BLAMES_IMAGE = re.compile(
    r"unable to find user|no matching entries in (?:passwd|group)|exec format error|executable file"
    r"|\bexec:? \S+: |open executable|no command or entrypoint provided",
    re.IGNORECASE,
)
#: What podman says, and what a person can do about it.
_HINTS = (
    ("unknown flag", "podman 4.0 or newer is needed"),
    ("container-init", "install catatonit, which `podman run --init` needs, or set init = false"),
    ("no subuid ranges", 'userns = "auto" needs a range of user ids; `imagechain-executor doctor` says how'),
    (
        "enough available IDs",
        'userns = "auto" needs a larger range of user ids in /etc/subuid and /etc/subgid',
    ),
    ("newuidmap", "the user needs a range of user ids; `imagechain-executor doctor` says how to give it one"),
)

_children: set["subprocess.Popen[bytes]"] = set()


class Result(NamedTuple):
    """How a call of podman ended."""

    code: int
    output: str
    error: str


class PodmanError(SystemFailureError):
    """Podman could not do what it was asked; `result` has its own words."""

    def __init__(self, arguments: Sequence[str], result: Result) -> None:
        # Only the command: what follows may be long, and is told by what podman says.
        command = " ".join(arguments[: 2 if arguments[0] in {"network", "volume", "image"} else 1])
        said = result.error.strip()[-_ERROR_CHARACTERS_MAX:] or "it said nothing"
        hint = next((f"; {hint}" for words, hint in _HINTS if words in said), "")
        super().__init__(f"`podman {command}` ended with exit code {result.code}: {said}{hint}")
        self.result = result


def blames_image(said: str) -> bool:
    """Tell from podman's words whether a container did not start because of what its image or job holds."""
    return _BLAMES_IMAGE.search(said) is not None


def environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return what podman may know of the environment.

    Raises:
        SystemFailureError: podman would keep its run-time state in the runner's folder for this one job.
    """
    kept = {
        name: value
        for name, value in environ.items()
        if name in _KEPT_NAMES or name.startswith(_KEPT_PREFIXES)
    }
    if os.geteuid() != 0 and not kept.get("XDG_RUNTIME_DIR"):
        usual = f"/run/user/{os.geteuid()}"
        if not os.path.isdir(usual):
            raise SystemFailureError(
                f"XDG_RUNTIME_DIR is not set and {usual} does not exist, so that podman has no lasting place"
                " for its state; run `loginctl enable-linger` for this user, and set XDG_RUNTIME_DIR in the"
                " service of the runner"
            )
        kept["XDG_RUNTIME_DIR"] = usual
    kept.setdefault("PATH", os.defpath)
    return kept


class Call:
    """A podman that is running."""

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        stdin: int = subprocess.DEVNULL,
        stdout: int | IO[bytes] = subprocess.PIPE,
        stderr: int | IO[bytes] = subprocess.PIPE,
        keep: Sequence[int] = (),
        leashed: bool = False,
    ) -> None:
        """Start it; it inherits the descriptors `keep`; if leashed, it ends when this stage is killed."""
        self._arguments = arguments
        try:
            self.process = subprocess.Popen(
                [*(_leash() if leashed else ()), "podman", *arguments],
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                env=environment(),
                cwd="/",
                pass_fds=keep,
                start_new_session=True,
            )
        except FileNotFoundError:
            raise SystemFailureError(_MISSING) from None
        except OSError as error:
            raise SystemFailureError(f"podman cannot be started: {error.strerror}") from error
        _children.add(self.process)

    def result(self, timeout_seconds: float = CALL_SECONDS_MAX) -> Result:
        """Wait for its end.

        Raises:
            SystemFailureError: it takes too long.
        """
        try:
            output, error = self.process.communicate(timeout=timeout_seconds)
        except subprocess.TimeoutExpired:
            stop(self.process)
            raise SystemFailureError(
                f"`podman {self._arguments[0]}` did not end within {timeout_seconds:g} s;"
                " is its storage locked, or full?"
            ) from None
        finally:
            _children.discard(self.process)
        code = self.process.returncode
        if code == 127 and not output and b"setpriv" in (error or b""):
            raise SystemFailureError(_MISSING)
        return Result(code, _decode(output), _decode(error))

    def check(self, timeout_seconds: float = CALL_SECONDS_MAX) -> str:
        """Wait for its end and return what it printed.

        Raises:
            SystemFailureError: it failed or takes too long.
        """
        result = self.result(timeout_seconds)
        if result.code != 0:
            raise PodmanError(self._arguments, result)
        return result.output


def run(*arguments: str, timeout_seconds: float = CALL_SECONDS_MAX) -> Result:
    """Run podman to its end, whatever that is."""
    return Call(arguments).result(timeout_seconds)


def check(*arguments: str, timeout_seconds: float = CALL_SECONDS_MAX) -> str:
    """Run podman and return what it printed.

    Raises:
        SystemFailureError: it failed.
    """
    return Call(arguments).check(timeout_seconds)


def stop(process: "subprocess.Popen[bytes]") -> None:
    """End a podman: TERM, so that it leaves its storage in order, then KILL."""
    process.terminate()
    try:
        process.wait(_STOP_SECONDS_MAX)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def stop_all() -> None:
    """End every podman that this stage has started and not waited for."""
    for process in _children:
        with contextlib.suppress(ProcessLookupError):
            stop(process)
    _children.clear()


def _leash() -> tuple[str, ...]:
    """The prefix that makes the kernel end a long-running podman when this stage is killed.

    A short call is better left to end by itself: half a container is worse than one that `gc` finds.
    """
    # The setpriv of busybox has no such option.
    if os.path.exists(_SETPRIV) and not os.path.realpath(_SETPRIV).endswith("busybox"):
        return (_SETPRIV, "--pdeathsig", signal.SIGTERM.name.removeprefix("SIG"), "--")
    return ()


def _decode(data: bytes | None) -> str:
    return (data or b"").decode(errors="replace")
