"""Where state is kept."""

import os
from pathlib import Path

import pytest

from imagechain.config import state_folder


@pytest.mark.parametrize(
    ("state_dir", "environ", "folder"),
    [
        ("/srv/state", {"STATE_DIRECTORY": "/var/lib/unit", "HOME": "/home/anna"}, "/srv/state"),
        ("", {"STATE_DIRECTORY": "/var/lib/one:/var/lib/two", "HOME": "/"}, "/var/lib/one"),
        ("", {"XDG_STATE_HOME": "/home/anna/state", "HOME": "/home/anna"}, "/home/anna/state/imagechain"),
        ("", {"HOME": "/home/anna"}, "/home/anna/.local/state/imagechain"),
    ],
)
def test_the_nearest_place_counts(
    monkeypatch: pytest.MonkeyPatch, state_dir: str, environ: dict[str, str], folder: str
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert state_folder(state_dir, environ) == Path(folder)


def test_root_has_the_systems_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert state_folder("", {"HOME": "/root"}) == Path("/var/lib/imagechain")
