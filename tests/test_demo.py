"""The demo of the README, run as a person runs it: a Debian from scratch, five images on it, the service."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).parent.parent


@pytest.mark.builds
def test_the_demo_builds_changes_and_builds_again(tmp_path: Path) -> None:
    if shutil.which("apt-get") is None or shutil.which("mmdebstrap") is None:
        pytest.skip("the demo needs apt and mmdebstrap, and this machine lacks one of them")
    if not _apt_knows_an_archive():
        pytest.skip("apt knows no archive here: run apt-get update first")
    done = subprocess.run(
        [TOP / "scripts/demo"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        timeout=900,
    )
    assert done.returncode == 0, done.stdout
    # All six; again, because the lowest changed; nothing; only the one that has a new comment.
    ends = re.findall(r"^(?:\d+ built.*|Nothing to do.*)\.$", done.stdout, re.MULTILINE)
    assert ends == ["6 built.", "6 built.", "Nothing to do: 6 fresh.", "1 built, 5 fresh."]
    for image in ("base", "ruby", "greeting", "calendar", "app", "tools"):
        started = re.findall(rf"^building {image}: (.*)$", done.stdout, re.MULTILINE)
        assert len(started) == (3 if image == "base" else 2), image
    assert "Each image was built exactly once, in order" in done.stdout
    assert not list(tmp_path.glob("imagechain-demo*"))


def _apt_knows_an_archive() -> bool:
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages", "Origin: Debian"],
        capture_output=True,
        check=False,
    )
    return bool(listed.stdout.strip())
