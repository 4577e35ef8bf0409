"""The two ways in which a stage can fail, as the runner tells them apart by exit code.

A build failure is the job's own fault and final. A system failure is what another attempt, or the person who
runs this machine, can mend: the runner tries `prepare` three times, and `retry:when: runner_system_failure`
applies. Everything unforeseen is a system failure: nobody's script is blamed for it.
"""

import os


class ExecutorError(Exception):
    """A stage failed; the message goes to the job log and says what to do next."""


class BuildFailureError(ExecutorError):
    """The job asks for what cannot be: no further attempt would help."""


class SystemFailureError(ExecutorError):
    """This machine, its settings or a system it needs is at fault."""


def exit_code(error: ExecutorError) -> int:
    """Return the exit code by which this runner knows the failure; the runner chooses both numbers."""
    name, usual = (
        ("BUILD_FAILURE_EXIT_CODE", 1)
        if isinstance(error, BuildFailureError)
        else ("SYSTEM_FAILURE_EXIT_CODE", 2)
    )
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() and 0 < int(text) < 256 else usual
