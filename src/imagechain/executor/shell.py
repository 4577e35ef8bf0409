"""The little that runs inside a container besides the job's own scripts. Pure: texts only.

The container of a job is started once, by its entrypoint, with a shell as the command: that shell is the
keep-alive. It tells which shell it found and leaves what the entrypoint exported where every container has a
place to write, also a read-only one. It waits by reading, so that an image needs no `sleep`. Each script then
runs through `podman exec`, and nothing secret is in an argument.
"""

#: In memory, private to the container, and there under every setting.
_EXPORTS = "/dev/shm/.imagechain-exports"  # noqa: S108
#: As the docker executor looks for a shell.
_SHELLS = "/usr/local/bin/bash /usr/bin/bash /bin/bash /usr/local/bin/sh /usr/bin/sh /bin/sh /busybox/sh"

_WAIT = (
    f"(umask 077; export -p > {_EXPORTS}); "
    'echo "$0 $1"; '
    # What scripts leave behind becomes a child of process 1, and its end interrupts `read` in some shells.
    # Standard input ends only where podman restarted the container.
    "while :; do read -r _ || sleep 60; done"
)
_KEEP_ALIVE = (
    f"for shell in {_SHELLS}; do "
    f'if [ -x "$shell" ]; then exec "$shell" -c \'{_WAIT}\' "$0" "$shell"; fi; done; '
    "echo 'no shell was found in the places where GitLab Runner looks for one' >&2; exit 127"
)


def keep_alive(marker: str) -> list[str]:
    """Return the command of a container that prints the marker and its shell's path when it is ready."""
    return ["sh", "-c", _KEEP_ALIVE, marker]


def prelude(*, helper: bool) -> bytes:
    """Return what comes before a script: both outputs in one pipe keep their order, two would lose it.

    In the helper everything is made writable for all, as the job's image may run as another user.
    """
    umask = "umask 0000\n" if helper else ""
    return f"exec 2>&1\n{umask}[ ! -r {_EXPORTS} ] || . {_EXPORTS}\n".encode()


def ready_shell(log: str, marker: str) -> str:
    """Find the shell that a keep-alive announced in its container's log; empty if it has not."""
    for line in log.splitlines():
        # A line is `<time> <stream> <F or P> <text>`.
        words = line.split(" ", 3)[-1].split(" ")
        if len(words) == 2 and words[0] == marker and words[1].startswith("/"):
            return words[1]
    return ""


def last_lines(log: str, count: int) -> str:
    """Return the end of a container's log without times."""
    return "\n".join(line.split(" ", 3)[-1] for line in log.splitlines()[-count:])
