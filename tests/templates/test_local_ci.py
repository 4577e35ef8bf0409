"""A pipeline that hangs fails its test, and says where it hung, instead of holding up everything."""

import os
import sys
from pathlib import Path

import pytest

from templates.local_ci import run_bounded

#: What hangs is not the program that was started, and holds its output open.
HANGING = f"""
echo begun
{sys.executable} -c 'import time; time.sleep(600)' &
wait
"""


def test_a_program_that_hangs_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    with pytest.raises(pytest.fail.Exception, match=r"(?s)did not end within 1 s:\nbegun\n.*<module>"):
        run_bounded(["sh", "-c", HANGING], cwd=tmp_path, environ=os.environ, seconds_max=1)


def test_output_and_exit_code_come_back(tmp_path: Path) -> None:
    done = run_bounded(["sh", "-c", "echo out; echo err >&2; exit 3"], cwd=tmp_path, environ=os.environ)
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "err\n", 3)
