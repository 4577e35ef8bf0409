"""Commands of the host's administrator around each update. Run as they are, without a shell."""

from collections.abc import Sequence

from imagechain.hosts.podman import User
from imagechain.images.process import ProgramError, ending, run

#: Names of the containers, with a blank between two.
CONTAINERS_VARIABLE = "IMAGECHAIN_CONTAINERS"
USER_VARIABLE = "IMAGECHAIN_USER"
_SAID_CHARACTERS_MAX = 500


class HookError(Exception):
    """A hook did not end with exit code 0; the message says what it said."""


async def run_hook(
    argv: Sequence[str], timeout_seconds: float, containers: Sequence[str], user: User
) -> None:
    """Run a hook, as the user who runs this; nothing is run where none is set.

    Raises:
        HookError: it failed, is missing, or did not end in time.
    """
    if not argv:
        return
    told = {CONTAINERS_VARIABLE: " ".join(containers), USER_VARIABLE: user.name}
    path = {"PATH": user.environment["PATH"]}
    try:
        done = await run(argv, timeout_seconds=timeout_seconds, environment={**path, **told})
    except ProgramError as error:
        raise HookError(f"hook {argv[0]}: {error}") from error
    if done.exit_code != 0:
        said = done.error.strip()[-_SAID_CHARACTERS_MAX:]
        raise HookError(f"hook {argv[0]} {ending(done.exit_code)}{': ' if said else ''}{said}")
