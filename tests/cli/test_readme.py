"""The README tells of all commands, and of none that is not there."""

import re
from pathlib import Path

from imagechain.cli.main import app

README = Path(__file__).parents[2] / "README.md"


def test_the_readme_lists_the_commands_that_there_are() -> None:
    rows = re.findall(r"^\| (`imagechain .*?) \|", README.read_text(), re.MULTILINE)
    listed = {name for row in rows for name in re.findall(r"`(?:imagechain )?([a-z]+)[ `]", row)}
    there = {name for name in app if not name.startswith("-")}
    assert there - listed == set(), "give each new command a row in the README's table"
    assert listed - there == set()
