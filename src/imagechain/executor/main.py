"""The command `imagechain-executor`: load the one stage that was asked for; turn a failure into an exit code.

The arguments are read by hand and the stages are imported on demand, because the runner starts this program
about ten times for each job.
"""

import importlib
import os
import sys
from typing import TYPE_CHECKING, NoReturn

from imagechain.executor.errors import ExecutorError, exit_code

if TYPE_CHECKING:
    from collections.abc import Callable

_STAGES = {
    "config": "config",
    "prepare": "prepare",
    "run": "run",
    "cleanup": "cleanup",
    "gc": "gc",
    "doctor": "doctor",
    "install": "install",
}
_USAGE = "usage: imagechain-executor config|prepare|run|cleanup|gc|doctor|install [--settings FILE] ..."
_WRONG_USAGE = 2


def main() -> NoReturn:
    """Run a stage and end with the exit code for the runner, or for a person."""
    code = _run()
    sys.stdout.flush()
    sys.stderr.flush()
    # Nothing is left to be done; taking the interpreter apart would cost each of ten starts milliseconds.
    os._exit(code)


def _run() -> int:
    if len(sys.argv) < 2 or sys.argv[1] not in _STAGES:
        return _usage()
    module = importlib.import_module(f"imagechain.executor.{_STAGES[sys.argv[1]]}")
    stage: Callable[[list[str]], int] = module.main
    try:
        return stage(sys.argv[2:])
    except ExecutorError as error:
        print(f"imagechain-executor: {error}", file=sys.stderr)  # noqa: T201
        return exit_code(error)


def _usage() -> int:
    asked_for_help = sys.argv[1:2] in (["-h"], ["--help"])
    print(_USAGE, file=sys.stdout if asked_for_help else sys.stderr)
    return 0 if asked_for_help else _WRONG_USAGE


if __name__ == "__main__":
    main()
