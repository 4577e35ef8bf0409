"""`imagechain --install-completion`; a module of its own, because no other command needs what it imports."""

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter
from cyclopts.completion import ShellDetectionError

from imagechain.cli.errors import UsageError
from imagechain.cli.main import app
from imagechain.cli.output import print_lines


def install_completion(
    *,
    shell: Literal["zsh", "bash", "fish", "powershell"] | None = None,
    output: Annotated[Path | None, Parameter(name=["-o", "--output"])] = None,
) -> None:
    """Write the completion of your shell to a file.

    Args:
        shell: Which shell; default: the one that runs this.
        output: The file; default: where the shell looks for it.
    """
    try:
        file = app.install_completion(shell=shell, output=output, add_to_startup=False)
    except ShellDetectionError as error:
        raise UsageError(f"it is not known which shell runs this ({error}); name it with --shell") from error
    print_lines([f"{file} has the completion; begin a new shell to use it"])
    if shell == "zsh" or file.name.startswith("_"):
        print_lines([f"its folder must be in zsh's $fpath: fpath=({file.parent} $fpath)"])
