"""The arguments that the stages have in common, read by hand: argparse would cost every start."""

from imagechain.executor.errors import SystemFailureError

DEFAULT_SETTINGS = "/etc/imagechain/executor.toml"
_OPTION = "--settings"


def take_settings(arguments: list[str]) -> tuple[str, list[str]]:
    """Split `--settings FILE` off the front of a stage's arguments; return the file and the rest.

    Raises:
        SystemFailureError: the file is missing behind the option.
    """
    if arguments[:1] == [_OPTION]:
        if len(arguments) < 2:
            raise SystemFailureError(
                f"{_OPTION} needs a file; correct the *_args in the runner's config.toml"
            )
        return arguments[1], arguments[2:]
    if arguments and arguments[0].startswith(f"{_OPTION}="):
        return arguments[0].partition("=")[2], arguments[1:]
    return DEFAULT_SETTINGS, arguments
