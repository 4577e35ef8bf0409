"""A command is started for each job: what it does not use is not loaded."""

import subprocess
import sys

import pytest

UNUSED = {"httpx2", "http.cookiejar", "stamina", "yaml", "rich", "sqlalchemy", "imagechain.engines.local"}


@pytest.mark.parametrize("command", ["image_build", "image_tag"])
def test_a_command_about_one_image_loads_nothing_that_it_may_not_need(command: str) -> None:
    program = f"import sys, imagechain.cli.{command}; print(*sys.modules)"
    argv = [sys.executable, "-c", program]
    loaded = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()
    assert f"imagechain.cli.{command}" in loaded
    assert UNUSED & set(loaded) == set()
