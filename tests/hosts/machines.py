"""A host to be refreshed: a podman of its own, a registry, and the command that is tested."""

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

from executor.machine import Machine
from executor.registry import Registry
from imagechain.cli import main

#: Logs each call of podman, and kills imagechain at the call that a file names.
_WRAPPER = """#!/bin/sh
echo "$*" >> {folder}/calls
if [ -e {folder}/kill-at ]; then
    left=$(($(cat {folder}/kill-at) - 1))
    echo $left > {folder}/kill-at
    if [ $left -eq 0 ]; then kill -9 $(cat {folder}/pid); sleep 5; fi
    if [ -e {folder}/kill-after ] && [ $left -eq 1 ]; then
        {podman} "$@"; kill -9 $(cat {folder}/pid); sleep 5
    fi
fi
exec {podman} "$@"
"""


class HostMachine:
    """One host with root's podman."""

    machine_type = Machine

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self.machine = self.machine_type(folder / "machine")
        #: Another machine, where images are built: this host knows nothing of them.
        self.builder = Machine(folder / "builder")
        self.registry = Registry(folder / "registry")
        self.settings = folder / "imagechain.toml"
        #: More variables for the command.
        self.variables: dict[str, str] = {}
        self.write_settings()
        (folder / "bin").mkdir()
        podman = subprocess.run(
            ["which", "podman"], capture_output=True, text=True, check=True
        ).stdout.strip()
        wrapper = folder / "bin/podman"
        wrapper.write_text(_WRAPPER.format(folder=folder, podman=podman))
        wrapper.chmod(0o755)
        self.machine.registries.write_text(
            "unqualified-search-registries = []\n"
            f'[[registry]]\nlocation = "{self.registry.host}"\ninsecure = true\n'
        )

    def write_settings(self, more: str = "") -> None:
        self.settings.write_text(
            f'state_dir = "{self.folder}/state"\n[hosts]\nsettle = "0.2s"\n{more}\n'
            f'[registry."{self.registry.host}"]\ninsecure = true\n'
        )

    @property
    def podman(self) -> Any:
        return self.machine.podman

    def push(self, repository: str, *, version: str, changes: tuple[str, ...] = ()) -> str:
        """Build an image of a version and push it under the tag `latest`; return its reference."""
        reference = f"{self.registry.host}/{repository}:latest"
        local = f"localhost/build/{repository}-{version}"
        self.builder.make_image(local, files={"version": version}, changes=changes)
        self.builder.podman("push", "--quiet", "--tls-verify=false", local, reference)
        return reference

    def environment(self) -> dict[str, str]:
        return {
            **self.machine.environment,
            "PATH": f"{self.folder}/bin:{os.environ['PATH']}",
            **self.variables,
        }

    def start(self, *arguments: str, before: str = "pass") -> "subprocess.Popen[str]":
        """Begin `imagechain hosts …`, after a line of Python."""
        program = f"{before}\nfrom imagechain.cli.main import main; main()"
        process = subprocess.Popen(
            [sys.executable, "-c", program, "hosts", *arguments, "--config", str(self.settings)],
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        (self.folder / "pid").write_text(str(process.pid))
        return process

    def command(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run `imagechain hosts …` to its end."""
        return self.run("hosts", *arguments)

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        """Run `imagechain …` to its end, in this process: Python starts slowly."""
        out, err = io.StringIO(), io.StringIO()
        words = [*arguments, "--config", str(self.settings)]
        with (
            mock.patch.dict(os.environ, self.environment(), clear=True),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            code = main.run(words)
        return subprocess.CompletedProcess(words, code, out.getvalue(), err.getvalue())

    def update(self, *arguments: str) -> dict[str, Any]:
        done = self.command("update", "--format=json", *arguments)
        assert done.stdout, done.stderr
        print(done.stdout, done.stderr)  # noqa: T201 - pytest shows it where a test fails
        return {**json.loads(done.stdout), "code": done.returncode, "error": done.stderr}

    def status(self) -> list[dict[str, Any]]:
        done = self.command("status", "--format=json")
        assert done.stdout, done.stderr
        rows: list[dict[str, Any]] = json.loads(done.stdout)["containers"]
        return rows

    def peek(self) -> list[str]:
        """The calls of podman so far."""
        file = self.folder / "calls"
        return file.read_text().splitlines() if file.exists() else []

    def calls(self) -> list[str]:
        """The calls of podman since this was asked last."""
        found = self.peek()
        (self.folder / "calls").unlink(missing_ok=True)
        return found

    def inspect(self, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.podman("container", "inspect", name))[0]
        return found

    def version(self, name: str) -> str:
        """The version that a container runs."""
        text: str = self.podman("exec", name, "cat", "/version")
        return text.strip()

    def names(self) -> list[str]:
        return sorted(self.podman("ps", "--all", "--format={{.Names}}").split())

    def forget(self) -> None:
        """Remove all containers and what imagechain remembers."""
        self.podman("pod", "rm", "--all", "--force", "--time=0", check=False)
        self.podman("rm", "--all", "--force", "--time=0", check=False)
        self.podman("rmi", "--all", "--force", check=False)
        subprocess.run(["rm", "-rf", f"{self.folder}/state", f"{self.folder}/calls"], check=True)
        for name in ("kill-at", "kill-after"):
            (self.folder / name).unlink(missing_ok=True)

    def remove(self) -> None:
        self.registry.stop()
        self.machine.remove()
        self.builder.remove()
