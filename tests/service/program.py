"""`imagechain serve` as a program of its own, beside a simulated GitLab on a socket."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pytest

from imagechain.cli.main import run
from imagechain.testing import InstanceSettings, Role, SimulatedGitLab
from imagechain.testing.demo import free_port
from imagechain.testing.server import serving

__all__ = [
    "SECRET",
    "ask",
    "free_port",
    "gitlab_with_projects",
    "service",
    "wait_for_sources",
    "wait_until",
    "write_settings",
]

SECRET = "0123456789abcdef0123456789abcdef"


@contextmanager
def gitlab_with_projects(*, enterprise: bool = False) -> Iterator[tuple[SimulatedGitLab, str, str]]:
    settings = InstanceSettings(registry_host="127.0.0.1:1", enterprise=enterprise)
    gitlab = SimulatedGitLab(clock=time.time, seed=1, settings=settings)
    bot = gitlab.add_user("bot", bot=True)
    gitlab.add_group("images", members={bot: Role.OWNER})
    gitlab.add_project("images/base", files={"Containerfile": "FROM scratch\n"})
    gitlab.add_project("images/app", files={"Containerfile": "FROM 127.0.0.1:1/images/base\n"})
    with serving(gitlab) as url:
        yield gitlab, url, gitlab.add_token(bot).value


def write_settings(
    folder: Path,
    gitlab_url: str,
    token: str,
    port: int,
    *,
    registry: str = "127.0.0.1:1",
    store_url: str = "",
    hooks_port: int = 0,
) -> Path:
    """Write the settings of a replica; webhooks go to itself, or to the port of another one."""
    for name, text in {"gitlab-token": token, "hook-key": SECRET, "api-token": SECRET}.items():
        (folder / name).write_text(text)
    file = folder / "imagechain.toml"
    file.write_text(
        f"""
        state_dir = "{folder}/state"
        [gitlab]
        url = "{gitlab_url}"
        groups = ["images"]
        token_file = "{folder}/gitlab-token"
        [server]
        listen = "127.0.0.1:{port}"
        url = "http://127.0.0.1:{hooks_port or port}"
        hook_key_file = "{folder}/hook-key"
        api_token_file = "{folder}/api-token"
        [store]
        url = "{store_url or f"sqlite:///{folder}/imagechain.db"}"
        [registry."{registry}"]
        insecure = true
        """
    )
    return file


@contextmanager
def service(
    config: Path, port: int, environment: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[bytes]]:
    start = "from imagechain.cli.main import main; main()"
    program = [sys.executable, "-c", start, "serve", "--config", str(config)]
    process = subprocess.Popen(
        program, stderr=subprocess.PIPE, env={**os.environ, "NO_PROXY": "*", **(environment or {})}
    )
    try:
        for _ in range(400):
            try:
                if httpx2.get(f"http://127.0.0.1:{port}/api/v1/graph").is_success:
                    break
            except httpx2.TransportError:
                pass
            assert process.poll() is None, process.stderr and process.stderr.read()
            time.sleep(0.05)
        yield process
    finally:
        process.kill()
        process.communicate()


def ask(capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    capsys.readouterr()
    assert run([*arguments, "--format", "json"]) == 0
    return json.loads(capsys.readouterr().out)


def wait_for_sources(capsys: pytest.CaptureFixture[str], server: str, count: int) -> Any:
    for _ in range(200):
        shown = ask(capsys, "status", "--server", server)["sources"]
        if len(shown) >= count:
            return shown
        time.sleep(0.05)
    raise AssertionError("nothing was scanned")


def wait_until(is_so: Callable[[], bool], seconds: float = 10.0) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, "it never comes to that"
        time.sleep(0.05)
